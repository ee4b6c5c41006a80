package xoauth2

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// maxNeed bounds the scopes and claims of a step together, in bytes: they go into a
// URL and into the session.
const maxNeed = 4 << 10

// StepUp answers a request whose error the user can mend by signing in again, with
// more scopes or with the claims that the server demands, and tells whether it has. The
// error is one that a token was asked for with; unless it is a
// *[tokencache.InteractionRequiredError], nothing is written.
//
//	token, err := client.Token(ctx, "api://tasks/Tasks.Write")
//	if err != nil && web.StepUp(w, r, err) {
//		return
//	}
//
// A browser is sent to the authorization server, and returns to the page that it has
// asked for; after a form to the page with the form, or to "/" (Referer). A program
// gets 403 and JSON with the local URL to open in its user's browser:
//
//	{"error":"interaction_required","signin":"/signin?step=…"}
//
// The scopes and claims are in the session, not in that URL, so that nobody makes a link
// which asks a user for consent. Consent adds up: what the user has tokens for stays.
//
// It is false as well, and the application says what is wrong, where going on would be
// a circle: if the user has come back from the same step, or from any five, in the last
// 5 minutes; in [WebOptions].Fail; if nobody is signed in; and for scopes and claims of
// more than 4 KiB.
func (w *Web) StepUp(rw http.ResponseWriter, r *http.Request, err error) bool {
	var needed *tokencache.InteractionRequiredError
	ctx := r.Context()
	if !errors.As(err, &needed) || ctx.Value(callbackKey{w}) != nil {
		return false
	}
	s, ok := newStep(needed, w.account(ctx))
	if !ok {
		return false
	}
	program := w.program(r)
	s.ReturnTo = w.returnTo(r, program)
	if !program {
		return w.beginStep(rw, r, s, func(st *webState) bool { return st.mayStep(s.Need) })
	}
	return w.change(rw, r, func(st *webState) func() {
		if !st.mayStep(s.Need) {
			return nil
		}
		ref := st.keep(s)
		return func() {
			forbidStoring(rw)
			writeJSON(rw, http.StatusForbidden, map[string]string{"error": "interaction_required", "signin": w.signInPath + "?step=" + ref})
		}
	})
}

// newStep returns false for what no sign-in can ask for.
func newStep(e *tokencache.InteractionRequiredError, account string) (step, bool) {
	size := len(e.Claims)
	for _, scope := range e.Scopes {
		size += len(scope) + 1
	}
	claims := e.Claims == "" || isJSONObject(e.Claims) && utf8.ValidString(e.Claims)
	if account == "" || size > maxNeed || checkScopes(e.Scopes) != nil || !claims {
		return step{}, false
	}
	return step{
		Ref: rand.Text(), Scopes: e.Scopes, Claims: e.Claims, Need: need(e.Scopes, e.Claims),
		Account: account, At: time.Now().Unix(),
	}, true
}

// need is the same for all that asks for the same: the scopes, in any order and case,
// and the claims.
func need(scopes []string, claims string) string {
	sorted := make([]string, len(scopes))
	for i, scope := range scopes {
		sorted[i] = strings.ToLower(scope)
	}
	slices.Sort(sorted)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(sorted), " ") + "\n" + claims))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// beginStep sends the browser to the authorization server for a step of its user.
func (w *Web) beginStep(rw http.ResponseWriter, r *http.Request, s step, check func(*webState) bool) bool {
	forbidStoring(rw)
	o := &SignInOptions{Scopes: s.Scopes, Claims: s.Claims, Account: s.Account, LoginHint: w.hint(r.Context(), s.Account)}
	return w.begin(rw, r, o, &begun{ReturnTo: s.ReturnTo, Need: s.Need}, check)
}

// signInForStep is SignIn with the reference of a step.
func (w *Web) signInForStep(rw http.ResponseWriter, r *http.Request, ref string) {
	ctx := r.Context()
	st, done, err := w.open(ctx)
	done()
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	s, ok := st.step(ref)
	if !ok || s.Account != w.account(ctx) {
		w.fail(rw, r, ErrRequest)
		return
	}
	w.beginStep(rw, r, s, nil)
}

// hint is how the authorization server knows the user, "" if that cannot be told.
func (w *Web) hint(ctx context.Context, account string) string {
	p, ok := w.client.cache.FromContext(ctx)
	if !ok || p.Key().Account() != account {
		return ""
	}
	tokens, err := p.Tokens(ctx)
	if err != nil {
		return ""
	}
	for _, a := range tokens.Accounts() {
		if a.ID == account && isHint(a.Username) {
			return a.Username
		}
	}
	return ""
}
