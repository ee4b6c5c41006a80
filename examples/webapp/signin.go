package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// What the session keeps. The ticket says who is signed in; it is no token.
const (
	sessionTicket  = "ticket"
	sessionPending = "pending" // sign-ins that have begun
	sessionNotice  = "notice"  // what the next page tells
	sessionLast    = "last"    // the last answer to a call
)

// ticket returns what the middleware finds the user's tokens by.
func (n *node) ticket(ctx context.Context) string {
	return n.sessions.GetString(ctx, sessionTicket)
}

// signIn sends the browser to the identity server. The parameters are
// login_hint, the user; return_to, the local path to go on with; and claims, which
// an error of interaction_required asks for.
func (n *node) signIn(w http.ResponseWriter, r *http.Request) {
	if n.redirectedHome(w, r) {
		return
	}
	q := r.URL.Query()
	returnTo := q.Get("return_to")
	if returnTo == "" {
		returnTo = "/"
	}
	if !isLocalPath(returnTo) || !isHint(q.Get("login_hint")) || !isClaims(q.Get("claims")) {
		n.fail(w, r, errBadRequest)
		return
	}
	target, signIn, err := n.client.BeginSignIn(&xoauth2.SignInOptions{
		LoginHint: q.Get("login_hint"),
		Claims:    q.Get("claims"),
	})
	if err != nil {
		n.fail(w, r, err)
		return
	}
	n.addPending(r.Context(), pending{State: stateOf(target), ReturnTo: returnTo, SignIn: signIn.Encode()})
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// callback is where the identity server sends the browser back to.
func (n *node) callback(w http.ResponseWriter, r *http.Request) {
	ctx, q := r.Context(), r.URL.Query()
	p, ok := n.takePending(ctx, q.Get("state"))
	if !ok {
		n.fail(w, r, errUnknownSignIn)
		return
	}
	// It must be gone from the store before the code is redeemed: a callback that
	// is sent twice at once would redeem the code twice, and the server then
	// revokes what it has issued (RFC 6749 §4.1.2).
	if _, _, err := n.sessions.Commit(ctx); err != nil {
		n.fail(w, r, errors.Join(errSessions, err))
		return
	}
	signIn, err := xoauth2.ParseSignIn(p.SignIn)
	if err != nil {
		n.fail(w, r, errUnknownSignIn)
		return
	}
	began := time.Now()
	var ticket tokencache.Ticket
	err = n.patiently(ctx, func(ctx context.Context) (err error) {
		ticket, err = n.client.CompleteSignIn(ctx, signIn, q)
		return err
	})
	if err != nil {
		n.fail(w, r, err)
		return
	}
	// Another session token, so that nobody who knows the old one is signed in
	// as well (session fixation).
	if err := n.sessions.RenewToken(ctx); err != nil {
		n.fail(w, r, errors.Join(errSessions, err))
		return
	}
	n.sessions.Put(ctx, sessionTicket, ticket.Encode())
	n.rememberAnswer(ctx, tokencache.SourceServer, time.Since(began))
	http.Redirect(w, r, p.ReturnTo, http.StatusSeeOther)
}

// signOut removes the user's tokens: this account's, or with everywhere=1 all
// that the account owns. The session ends if they are gone, and only then: a
// user who is told that it failed can press the button again.
func (n *node) signOut(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	err := r.ParseForm()
	if err != nil {
		n.fail(w, r, errBadRequest) // too large, perhaps: do not guess what was meant
		return
	}
	if r.FormValue("everywhere") == "1" {
		err = n.client.SignOutEverywhere(ctx)
	} else if err = n.client.SignOut(ctx); errors.Is(err, tokencache.ErrNoTokens) {
		err = nil // nothing to remove, as the user wanted
	}
	notice, told := "You are signed out.", true
	var server *tokencache.ServerError
	if errors.As(err, &server) && !errors.Is(err, tokencache.ErrUnavailable) {
		notice, told, err = "You are signed out here. The identity server could not be told.", false, nil
	}
	if err != nil {
		n.fail(w, r, err)
		return
	}
	n.endSession(ctx)
	if wantsJSON(r) {
		writeJSON(w, http.StatusOK, map[string]bool{"signed_out": true, "server_told": told})
		return
	}
	n.sessions.Put(ctx, sessionNotice, notice) // in a new session
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// endSession forgets who was signed in.
func (n *node) endSession(ctx context.Context) {
	if n.ticket(ctx) == "" {
		return
	}
	if err := n.sessions.Destroy(ctx); err != nil {
		n.log.Error("a session could not be ended", "error", err)
	}
}

// pending is a sign-in that has begun, until the browser comes back.
type pending struct{ State, ReturnTo, SignIn string }

// maxPending bounds what somebody who never comes back leaves in a session.
const maxPending = 5

func (n *node) pending(ctx context.Context) []pending {
	var list []pending
	_ = json.Unmarshal([]byte(n.sessions.GetString(ctx, sessionPending)), &list) // none at first
	return list
}

func (n *node) setPending(ctx context.Context, list []pending) {
	text, _ := json.Marshal(list) // strings: cannot fail
	n.sessions.Put(ctx, sessionPending, string(text))
}

func (n *node) addPending(ctx context.Context, p pending) {
	list := append(n.pending(ctx), p)
	n.setPending(ctx, list[max(0, len(list)-maxPending):])
}

// takePending finds a sign-in by its state, once.
func (n *node) takePending(ctx context.Context, state string) (pending, bool) {
	list := n.pending(ctx)
	i := slices.IndexFunc(list, func(p pending) bool { return p.State == state })
	if i < 0 {
		return pending{}, false
	}
	found := list[i]
	n.setPending(ctx, slices.Delete(list, i, i+1))
	return found, true
}

// stateOf is the state parameter of an authorization URL.
func stateOf(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	return u.Query().Get("state")
}

// redirectedHome leads a browser that came by another name of this machine,
// such as localhost, to the address that the identity server sends it back to:
// cookies belong to the name.
func (n *node) redirectedHome(w http.ResponseWriter, r *http.Request) bool {
	host, _, _ := strings.Cut(r.Host, ":")
	own, err := url.Parse(n.url)
	if host != "localhost" || err != nil || own.Hostname() == "localhost" {
		return false
	}
	http.Redirect(w, r, n.url+r.URL.RequestURI(), http.StatusSeeOther) // #nosec G710 -- to this app, at a path that it serves
	return true
}

// isLocalPath refuses whatever a browser might take for another site: "//host"
// and "/\host" are URLs without a scheme.
func isLocalPath(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") &&
		!strings.Contains(path, `\`) && len(path) <= 1024 && !hasControl(path)
}

func isHint(hint string) bool { return len(hint) <= 256 && !hasControl(hint) }

func isClaims(claims string) bool {
	var object map[string]json.RawMessage
	return claims == "" || len(claims) <= 4096 && json.Unmarshal([]byte(claims), &object) == nil && object != nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}
