package xoauth2

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// answer is what [WebOptions].Fail does by default.
func (w *Web) answer(rw http.ResponseWriter, r *http.Request, err error) {
	status, code, text := failure(err)
	if status == http.StatusServiceUnavailable {
		rw.Header().Set("Retry-After", "1")
	}
	if w.program(r) {
		writeJSON(rw, status, map[string]string{"error": code})
		return
	}
	http.Error(rw, text, status)
}

// failure sorts an error. It shows nothing of its text.
func failure(err error) (status int, code, text string) {
	var needed *tokencache.InteractionRequiredError
	var refused *ProtocolError
	switch {
	case errors.Is(err, ErrRequest):
		return http.StatusBadRequest, "bad_request", "That link is not valid."
	case errors.Is(err, ErrDenied):
		return http.StatusForbidden, "access_denied", "The sign-in was cancelled or refused."
	case errors.Is(err, ErrOtherUser):
		return http.StatusForbidden, "other_user", "Another user has signed in. Please sign out first."
	case errors.As(err, &needed):
		return http.StatusForbidden, "interaction_required", "The sign-in could not be completed."
	case errors.Is(err, ErrCallback), errors.Is(err, ErrIDToken):
		return http.StatusBadRequest, "sign_in_failed", "The sign-in failed. Please begin it again."
	case errors.As(err, &refused):
		return http.StatusBadGateway, "server_refused", "The sign-in is not set up correctly."
	}
	return http.StatusServiceUnavailable, "temporarily_unavailable", "Please try again in a moment."
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has left: nobody to tell
}
