package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
)

// What the session keeps. The ticket says who is signed in; it is no token.
const (
	sessionTicket = "ticket"
	sessionSignIn = "sign-in" // one that has begun
	sessionNotice = "notice"  // what the next page tells
	sessionChain  = "chain"   // the last one
)

// ticket returns what the middleware finds the user's tokens by.
func (a *web) ticket(ctx context.Context) string { return a.sessions.GetString(ctx, sessionTicket) }

// signIn sends the browser to the identity server. The parameters are
// login_hint, the user, and claims, which a challenge of an API asks for.
func (a *web) signIn(w http.ResponseWriter, r *http.Request) {
	if a.redirectedHome(w, r) {
		return
	}
	q := r.URL.Query()
	if !isHint(q.Get("login_hint")) || !isClaims(q.Get("claims")) {
		a.fail(w, r, errBadRequest)
		return
	}
	target, signIn, err := a.client.BeginSignIn(&xoauth2.SignInOptions{
		LoginHint: q.Get("login_hint"),
		Claims:    q.Get("claims"),
	})
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.sessions.Put(r.Context(), sessionSignIn, signIn.Encode())
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// callback is where the identity server sends the browser back to.
func (a *web) callback(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	signIn, err := xoauth2.ParseSignIn(a.sessions.PopString(ctx, sessionSignIn))
	if err != nil {
		a.fail(w, r, errUnknownSignIn)
		return
	}
	// It must be gone from the store before the code is redeemed: a callback that
	// is sent twice at once would redeem the code twice, and the server then
	// revokes what it has issued (RFC 6749 §4.1.2).
	if _, _, err := a.sessions.Commit(ctx); err != nil {
		a.fail(w, r, errors.Join(errSessions, err))
		return
	}
	ticket, err := a.client.CompleteSignIn(ctx, signIn, r.URL.Query())
	if err != nil {
		a.fail(w, r, err)
		return
	}
	// Another session token, so that nobody who knows the old one is signed in
	// as well (session fixation).
	if err := a.sessions.RenewToken(ctx); err != nil {
		a.fail(w, r, errors.Join(errSessions, err))
		return
	}
	a.sessions.Put(ctx, sessionTicket, ticket.Encode())
	a.sessions.Remove(ctx, sessionChain) // perhaps another user's
	a.welcome(ctx, ticket)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// redirectedHome leads a browser that came by another name of this machine,
// such as localhost, to the address that the identity server sends it back to:
// cookies belong to the name.
func (a *web) redirectedHome(w http.ResponseWriter, r *http.Request) bool {
	host, _, _ := strings.Cut(r.Host, ":")
	own, err := url.Parse(a.server.url)
	if host != "localhost" || err != nil || own.Hostname() == "localhost" {
		return false
	}
	http.Redirect(w, r, a.server.url+r.URL.RequestURI(), http.StatusSeeOther) // #nosec G710 -- to this app, at a path that it serves
	return true
}

func isHint(hint string) bool {
	return len(hint) <= 256 && !strings.ContainsFunc(hint, func(c rune) bool { return c < ' ' || c == 0x7f })
}

func isClaims(claims string) bool {
	var object map[string]json.RawMessage
	return claims == "" || len(claims) <= 4096 && json.Unmarshal([]byte(claims), &object) == nil && object != nil
}
