package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// stage makes things happen at a local identity server that would otherwise take
// an administrator, or another day. Nothing of it is for an application to copy.
type stage struct {
	base string
	http *http.Client
}

func (s *stage) post(ctx context.Context, path string, q url.Values) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/control/"+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return &tokencache.ServerError{Err: withoutURL(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusNoContent {
		return &tokencache.ServerError{Err: fmt.Errorf("control: status %d", resp.StatusCode)}
	}
	return nil
}

// consent allows a client a scope.
func (s *stage) consent(ctx context.Context, user, client, scope string) error {
	return s.post(ctx, "consent", url.Values{"user": {user}, "client": {client}, "scope": {scope}})
}

// onStage is a button that does something and then shows the page again.
func (a *web) onStage(act func(ctx context.Context, username string) (notice string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !a.issuer.local() {
			a.fail(w, r, errNotLocal)
			return
		}
		user, err := a.user(r.Context())
		if err != nil {
			a.fail(w, r, err)
			return
		}
		notice, err := act(r.Context(), user.Username)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		a.sessions.Put(r.Context(), sessionNotice, notice)
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

// sessionWelcomed is what the session keeps of welcome.
const sessionWelcomed = "welcomed"

// welcome lets the orders API call the prices API in the name of a user who has just
// signed in. Nobody signs in to an API, so its users cannot be asked there: an
// administrator allows it for all of them, or it comes along with their consent to the
// web app. The local server has neither, and is told once for each session.
func (a *web) welcome(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		defer next.ServeHTTP(w, r)
		if !a.issuer.local() || a.sessions.GetBool(ctx, sessionWelcomed) {
			return
		}
		user, err := a.user(ctx)
		if err != nil {
			return // nobody is signed in, or what comes next says what is wrong
		}
		a.sessions.Put(ctx, sessionWelcomed, true)
		if _, err := a.allow(ctx, user.Username); err != nil {
			a.log.Warn("the orders API was not allowed to call the prices API", "error", err)
		}
	})
}

func (a *web) allow(ctx context.Context, username string) (string, error) {
	return "Orders may call Prices in your name.", a.stage.consent(ctx, username, ordersID, pricesScope)
}

// withdraw takes the API's permission away, but not the web app's own.
func (a *web) withdraw(ctx context.Context, username string) (string, error) {
	if err := a.afresh(ctx); err != nil {
		return "", err
	}
	if err := a.stage.post(ctx, "withdraw", url.Values{"user": {username}}); err != nil {
		return "", err
	}
	return "Orders may not call Prices in your name any more. Call, and see how it says so.",
		a.stage.consent(ctx, username, webID, ordersScope)
}

// secondFactor is a claims request (OpenID Connect Core §5.5) as an identity
// server makes it that wants a second factor.
const secondFactor = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`

// demand has the server issue nothing for the user until they have signed in again
// with what it wants.
func (a *web) demand(ctx context.Context, username string) (string, error) {
	if err := a.afresh(ctx); err != nil {
		return "", err
	}
	return "The identity server wants a second factor before it lets Orders call Prices in your name. Call: you are sent there and back.",
		a.stage.post(ctx, "interaction", url.Values{"user": {username}, "claims": {secondFactor}})
}

// revoke ends the user's sign-in at the server, which tells the web app
// (back-channel logout).
func (a *web) revoke(ctx context.Context, username string) (string, error) {
	return "Revoked at the identity server, which has told this app, if it knows where that is.",
		a.stage.post(ctx, "revoke", url.Values{"user": {username}})
}

// afresh gets another token for the first API, which then has to ask the server
// about the user again.
func (a *web) afresh(ctx context.Context) error {
	p, ok := a.cache.FromContext(ctx)
	if !ok {
		return tokencache.ErrNoTokens
	}
	if err := p.Expire(ctx); err != nil {
		return err
	}
	_, err := a.orders.token(ctx)
	return err
}
