package main

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Mistakes of a request, beside the errors of the cache and the client.
var (
	errBadRequest = errors.New("a parameter is not valid")
	errNotLocal   = errors.New("the identity server is not a local one")
	errRefused    = errors.New("the API refuses the user")
)

// problem is what is answered in place of a page or of JSON.
type problem struct {
	status int
	code   string // for programs
	title  string // for people, as the text
	text   string
	retry  time.Duration // if it helps to wait
}

// problemOf sorts an error. It shows the three kinds that an application keeps
// apart: sign in again, do something at the identity server, and wait.
func problemOf(err error) problem {
	var server *tokencache.ServerError
	var interaction *tokencache.InteractionRequiredError
	switch {
	case errors.Is(err, errSessions), errors.Is(err, xoauth2.ErrSession):
		return problem{
			status: http.StatusServiceUnavailable, code: "sessions_unavailable", title: "One moment, please",
			text: "The session store does not answer, so this app cannot tell who you are. It has not signed you out.", retry: time.Second,
		}
	case errors.Is(err, tokencache.ErrUnavailable), errors.Is(err, tokencache.ErrBusy):
		return problem{
			status: http.StatusServiceUnavailable, code: "cache_unavailable", title: "One moment, please",
			text: "The token store does not answer. You are still signed in.", retry: time.Second,
		}
	case errors.Is(err, tokencache.ErrNoTokens):
		return problem{status: http.StatusUnauthorized, code: "sign_in_required", title: "Sign in", text: whySignIn(err)}
	case errors.As(err, &interaction):
		return problem{
			status: http.StatusForbidden, code: "interaction_required", title: "Not yet",
			text: "The identity server still asks for what you have just done there. You are signed in; please try again in a few minutes.",
		}
	case errors.As(err, &server):
		return problem{
			status: http.StatusServiceUnavailable, code: "identity_server_unavailable", title: "One moment, please",
			text: "The identity server or its API does not answer. You are still signed in.", retry: max(time.Second, server.RetryAfter),
		}
	}
	return requestProblem(err)
}

// requestProblem sorts the errors of a sign-in and of bad requests.
func requestProblem(err error) problem {
	var protocol *xoauth2.ProtocolError
	again := " Please start the sign-in again."
	switch {
	case errors.Is(err, xoauth2.ErrDenied):
		return problem{status: http.StatusForbidden, code: "access_denied", title: "Not signed in", text: "The sign-in was cancelled or refused."}
	case errors.Is(err, xoauth2.ErrOtherUser):
		return problem{status: http.StatusForbidden, code: "other_user", title: "Somebody else", text: "Another user has signed in at the identity server, so nothing has changed here. Please sign out first."}
	case errors.Is(err, xoauth2.ErrIDToken):
		return problem{status: http.StatusBadRequest, code: "id_token_refused", title: "Not signed in", text: "The identity server’s answer belongs to another sign-in." + again}
	case errors.Is(err, xoauth2.ErrCallback):
		return problem{status: http.StatusBadRequest, code: "sign_in_failed", title: "Not signed in", text: "This sign-in has been used, is too old, or began elsewhere." + again}
	case errors.As(err, &protocol):
		return problem{status: http.StatusBadGateway, code: "identity_server_refused", title: "Not signed in", text: "The identity server does not accept this app. Whoever runs it must look at its registration."}
	case errors.Is(err, errBadRequest), errors.Is(err, xoauth2.ErrRequest):
		return problem{status: http.StatusBadRequest, code: "bad_request", title: "That link is not valid", text: "A parameter of the request is missing or wrong."}
	case errors.Is(err, errRefused):
		return problem{status: http.StatusForbidden, code: "api_refused", title: "Not allowed", text: "The API does not let you do that."}
	case errors.Is(err, errNotLocal):
		return problem{status: http.StatusForbidden, code: "not_local", title: "Not here", text: "Revoking is for a local identity server."}
	case errors.Is(err, errTooManyStreams):
		return problem{status: http.StatusTooManyRequests, code: "too_many_streams", title: "Too many pages", text: "Too many pages are open.", retry: 5 * time.Second}
	}
	// Whatever else happens, such as the end of the request, says nothing about
	// the user, and may pass.
	return problem{
		status: http.StatusServiceUnavailable, code: "temporarily_unavailable", title: "One moment, please",
		text: "That did not work. Please try again.", retry: time.Second,
	}
}

func whySignIn(err error) string {
	switch {
	case errors.Is(err, tokencache.ErrInvalidGrant):
		return "The identity server has ended your sign-in, so your session here has ended too."
	case errors.Is(err, tokencache.ErrRemoved):
		return "You were signed out, perhaps in another browser."
	case errors.Is(err, tokencache.ErrUnreadable):
		return "Your stored sign-in can no longer be read."
	}
	return "Your session has ended: its tokens are gone."
}

// fail answers with what the error means. Where the user can mend it at the identity
// server, that is where they go, and then back to the page. A session whose tokens are
// gone ends here: the answer says so, and the next request starts afresh, so nothing
// can go round in circles.
func (n *node) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	switch {
	case p.status == http.StatusUnauthorized && n.web.Ticket(r.Context()) == "":
		p.text = "Please sign in first."
	case p.status == http.StatusUnauthorized:
		n.endSession(r.Context())
	case p.code == "interaction_required" && n.web.StepUp(w, r, err):
		return
	case p.code == "access_denied" && n.web.Ticket(r.Context()) != "":
		p.title, p.text = "Not allowed", "You did not allow it, so nothing has changed. You are still signed in."
	case p.status >= http.StatusInternalServerError && r.Context().Err() == nil:
		n.log.Warn("request failed", "node", n.number, "path", r.URL.Path, "code", p.code, "error", err)
	}
	n.answer(w, r, p)
}

// answer writes a problem, as JSON for programs and as a page for people.
func (n *node) answer(w http.ResponseWriter, r *http.Request, p problem) {
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retry.Seconds()))))
	}
	switch {
	case wantsJSON(r):
		writeJSON(w, p.status, map[string]string{"error": p.code})
	case p.status == http.StatusUnauthorized:
		n.render(w, p.status, "signin.html", page{Title: p.title, Notice: p.text})
	default:
		n.render(w, p.status, "problem.html", page{Title: p.title, Body: p.view()})
	}
}

// wantsJSON tells programs from browsers, by the route, or by what they accept.
func wantsJSON(r *http.Request) bool {
	if strings.HasPrefix(r.URL.Path, "/api/") || r.URL.Path == "/events" || r.URL.Path == "/healthz" {
		return true
	}
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has left: nobody to tell
}

func (n *node) notFound(w http.ResponseWriter, r *http.Request) {
	n.answer(w, r, problem{status: http.StatusNotFound, code: "not_found", title: "Nothing here", text: "There is no such page."})
}

func (n *node) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	n.answer(w, r, problem{status: http.StatusMethodNotAllowed, code: "method_not_allowed", title: "Not this way", text: "This address takes another kind of request."})
}

func (n *node) refuseCrossOrigin(w http.ResponseWriter, r *http.Request) {
	n.answer(w, r, problem{status: http.StatusForbidden, code: "cross_origin", title: "Refused", text: "Another site sent this request."})
}
