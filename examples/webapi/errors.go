package main

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Mistakes of a request, beside the errors of the cache, the client and the APIs.
var (
	errBadRequest = errors.New("a parameter is not valid")
	errNotLocal   = errors.New("the identity server is not a local one")
	errSessions   = errors.New("the session store does not answer")
)

// problem is what is answered in place of a page or of JSON.
type problem struct {
	status int
	code   string // for programs
	title  string // for people, as the text
	text   string
	said   string // what an API or the server said, to the letter
	retry  time.Duration
	allow  bool // whether the user's consent does
}

// problemOf sorts an error. It shows what an application keeps apart: sign in
// again, do something at the identity server, and wait.
func problemOf(err error) problem {
	var server *tokencache.ServerError
	var interaction *tokencache.InteractionRequiredError
	var api *apiError
	switch {
	case errors.Is(err, errSessions), errors.Is(err, xoauth2.ErrSession):
		return waiting("sessions_unavailable", "The session store does not answer, so this app cannot tell who you are. It has not signed you out.", time.Second)
	case errors.Is(err, tokencache.ErrUnavailable), errors.Is(err, tokencache.ErrBusy):
		return waiting("token_store_unavailable", "The token store does not answer. You are still signed in.", time.Second)
	case errors.As(err, &interaction):
		return problem{
			status: http.StatusForbidden, code: "interaction_required", title: "Not yet",
			text: "The identity server still asks for what you have just done there, or for more than this app can ask you to do. " +
				"You are signed in; please try again in a few minutes.",
			said: interaction.Claims,
		}
	case errors.Is(err, tokencache.ErrNoTokens):
		return problem{status: http.StatusUnauthorized, code: "sign_in_required", title: "Sign in again", text: whySignIn(err)}
	case errors.As(err, &server):
		return waiting("identity_server_unavailable", "The identity server does not answer. You are still signed in.", server.RetryAfter)
	case errors.As(err, &api):
		return apiProblem(api)
	}
	return requestProblem(err)
}

// waiting is a problem that passes by itself.
func waiting(code, text string, retry time.Duration) problem {
	return problem{
		status: http.StatusServiceUnavailable, code: code, title: "One moment, please", text: text, retry: max(time.Second, retry),
	}
}

// apiProblem is what the first API says of its own trouble, and of the second's.
func apiProblem(e *apiError) problem {
	switch {
	case e.status == http.StatusForbidden && e.code == "insufficient_scope":
		return problem{
			status: http.StatusForbidden, code: "consent_required", title: "Your consent is missing", allow: true, said: e.challenge,
			text: "Orders may not call Prices in your name: you have not allowed it. The identity server told Orders, " +
				"and Orders passed it on to this app, as there is nobody at Orders whom it could ask.",
		}
	case e.status == http.StatusUnauthorized, e.status == http.StatusForbidden:
		return problem{
			status: http.StatusForbidden, code: "api_refused", title: "Not allowed", said: e.challenge,
			text: "Orders does not accept this app’s token for you.",
		}
	case e.code == "prices_unavailable":
		return waiting(e.code, "The second API, Prices, does not answer: Orders says so. You are still signed in, here and there.", e.retry)
	case e.code == "identity_server_unavailable", e.code == "token_store_unavailable":
		return waiting("orders_unavailable", "Orders cannot get a token for the second API at the moment. You are still signed in.", e.retry)
	case e.status == http.StatusBadGateway:
		return problem{
			status: http.StatusBadGateway, code: "orders_misconfigured", title: "Not set up",
			text: "Orders and Prices do not get along. Whoever runs them must look at their registrations.",
		}
	}
	return waiting("orders_unavailable", "The first API, Orders, does not answer. You are still signed in.", e.retry)
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
		return problem{status: http.StatusBadGateway, code: "identity_server_refused", title: "Not set up", text: "The identity server does not accept this app. Whoever runs it must look at its registration."}
	case errors.Is(err, errBadRequest), errors.Is(err, xoauth2.ErrRequest):
		return problem{status: http.StatusBadRequest, code: "bad_request", title: "That link is not valid", text: "A parameter of the request is missing or wrong."}
	case errors.Is(err, errNotLocal):
		return problem{status: http.StatusForbidden, code: "not_local", title: "Not here", text: "That is for a local identity server."}
	}
	// Whatever else happens, such as the end of the request, says nothing about
	// the user, and may pass.
	return waiting("temporarily_unavailable", "That did not work. Please try again.", 0)
}

func whySignIn(err error) string {
	switch {
	case errors.Is(err, tokencache.ErrInvalidGrant):
		return "The identity server has ended your sign-in, so your session here has ended too."
	case errors.Is(err, tokencache.ErrRemoved):
		return "You were signed out: in another browser, or by the identity server."
	case errors.Is(err, tokencache.ErrUnreadable):
		return "Your stored sign-in can no longer be read."
	}
	return "Your session has ended: its tokens are gone."
}

// fail answers with what the error means. Where the user can mend it at the identity
// server, that is where they go, and then back to the page; a program gets the local
// URL of that step. A session whose tokens are gone ends here: the answer says so, and
// the next request starts afresh, so nothing can go round in circles.
func (a *web) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	switch {
	case p.code == "sessions_unavailable": // there is no session to look at
		a.log.Warn("request failed", "path", r.URL.Path, "code", p.code, "error", err)
	case p.status == http.StatusUnauthorized && a.handlers.Ticket(r.Context()) == "":
		p.text = "Please sign in first."
	case p.status == http.StatusUnauthorized:
		a.endSession(r.Context())
	case p.code == "interaction_required" && a.handlers.StepUp(w, r, err):
		return
	case p.code == "access_denied" && a.handlers.Ticket(r.Context()) != "":
		p.title, p.text = "Not allowed", "You did not take the step, so nothing has changed. You are still signed in."
	case p.status >= http.StatusInternalServerError && r.Context().Err() == nil:
		a.log.Warn("request failed", "path", r.URL.Path, "code", p.code, "error", err)
	}
	a.answer(w, r, p)
}

// answer writes a problem, as JSON for programs and as a page for people.
func (a *web) answer(w http.ResponseWriter, r *http.Request, p problem) {
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retry.Seconds()))))
	}
	switch {
	case isProgram(r):
		body := map[string]string{"error": p.code}
		if p.said != "" {
			body["said"] = p.said
		}
		writeJSON(w, p.status, body)
	case p.status == http.StatusUnauthorized:
		view := page{Title: p.title, Notice: p.text}
		if r.Method == http.MethodGet {
			view.Body = r.URL.Path // to return to
		}
		a.pages.render(w, p.status, "signin.html", view)
	default:
		a.pages.render(w, p.status, "problem.html", page{Title: p.title, Body: p.view(a.issuer.local())})
	}
}

func (a *web) notFound(w http.ResponseWriter, r *http.Request) {
	a.answer(w, r, problem{status: http.StatusNotFound, code: "not_found", title: "Nothing here", text: "There is no such page."})
}

func (a *web) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	a.answer(w, r, problem{status: http.StatusMethodNotAllowed, code: "method_not_allowed", title: "Not this way", text: "This address takes another kind of request."})
}

func (a *web) sessionFailed(w http.ResponseWriter, r *http.Request, err error) {
	a.fail(w, r, errors.Join(errSessions, err))
}

func (a *web) refuseCrossOrigin(w http.ResponseWriter, r *http.Request) {
	a.answer(w, r, problem{status: http.StatusForbidden, code: "cross_origin", title: "Refused", text: "Another site sent this request."})
}
