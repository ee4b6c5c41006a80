package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// What the session keeps beside what xoauth2.Web does: who is signed in, and the
// sign-ins that have begun.
const (
	sessionNotice = "notice" // what the next page tells
	sessionLast   = "last"   // the last answer to a call
)

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
	if n.web.Ticket(ctx) == "" {
		return
	}
	if err := n.sessions.Destroy(ctx); err != nil {
		n.log.Error("a session could not be ended", "error", err)
	}
}

// atHome leads a browser that came by another name of this machine, such as
// localhost, to the address that the identity server sends it back to: cookies belong
// to the name.
func (n *node) atHome(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		own, err := url.Parse(n.url)
		if host != "localhost" || err != nil || own.Hostname() == "localhost" {
			next.ServeHTTP(w, r)
			return
		}
		http.Redirect(w, r, n.url+r.URL.RequestURI(), http.StatusSeeOther) // #nosec G710 -- to this app, at a path that it serves
	})
}
