package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// signOut removes the user's tokens from the web app, or with everywhere=1 also
// those of the user's other browsers, and those that the first API has obtained on
// the user's behalf. The session ends if they are gone, and only then: a user who is
// told that it failed can press the button again.
func (a *web) signOut(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	err := r.ParseForm()
	if err != nil {
		a.fail(w, r, errBadRequest) // too large, perhaps: do not guess what was meant
		return
	}
	notice := "You are signed out."
	if r.FormValue("everywhere") == "1" {
		var told bool
		if told, err = a.everywhere(ctx); !told {
			notice = "You are signed out. Orders could not be told: what it has for you ends with your last token."
		}
	} else {
		err = a.client.SignOut(ctx)
	}
	var server *tokencache.ServerError
	switch {
	case errors.Is(err, tokencache.ErrNoTokens):
		err = nil // nothing to remove, as the user wanted
	case errors.As(err, &server) && !errors.Is(err, tokencache.ErrUnavailable):
		notice, err = "You are signed out here. The identity server could not be told.", nil
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.endSession(ctx)
	a.sessions.Put(ctx, sessionNotice, notice) // in a new session
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// everywhere tells the API first, while there is a token to tell it with. The API's
// tokens are its own: they are in its cache, under its client ID, and nobody else
// can remove them. An API that does not answer is an error: nobody is told that they
// are signed out everywhere when they are not. But who has no token left for it has
// no way to tell it, and need not stay signed in for that.
func (a *web) everywhere(ctx context.Context) (told bool, err error) {
	err = a.orders.send(ctx, http.MethodPost, "/signout", nil)
	var api *apiError
	switch {
	case errors.As(err, &api), errors.Is(err, tokencache.ErrUnavailable), errors.Is(err, tokencache.ErrBusy), ctx.Err() != nil:
		return false, err
	}
	return err == nil, a.client.SignOutEverywhere(ctx)
}

// endSession forgets who was signed in.
func (a *web) endSession(ctx context.Context) {
	if a.handlers.Ticket(ctx) == "" {
		return
	}
	if err := a.sessions.Destroy(ctx); err != nil {
		a.log.Error("a session could not be ended", "error", err)
	}
}
