package middleware

import (
	"context"
	"mime"
	"net/http"
)

// maxLogout bounds the body of a logout request, in bytes.
const maxLogout = 32 << 10

// BackChannelLogout is the endpoint that an authorization server tells when somebody
// has signed out there (OpenID Connect Back-Channel Logout 1.0 §2.5). The function,
// such as BackChannelLogout of the package xoauth2, verifies the logout token and
// signs its user out.
//
// The answer is 200 when that is done; 400 with a JSON error if the request is not a
// POST of one logout_token, or the function fails, as §2.8 asks for. Register it
// outside of session and CSRF middleware: no browser calls it.
func BackChannelLogout(signOut func(ctx context.Context, logoutToken string) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(cacheControl, "no-store")
		token, ok := logoutToken(w, r)
		if !ok || signOut(r.Context(), token) != nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"invalid_request"}`))
			return
		}
		w.WriteHeader(http.StatusOK)
	})
}

// logoutToken returns the one logout token of the request.
func logoutToken(w http.ResponseWriter, r *http.Request) (string, bool) {
	typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method != http.MethodPost || err != nil || typ != "application/x-www-form-urlencoded" {
		return "", false
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxLogout)
	if r.ParseForm() != nil || len(r.PostForm["logout_token"]) != 1 {
		return "", false
	}
	return r.PostForm.Get("logout_token"), r.PostForm.Get("logout_token") != ""
}
