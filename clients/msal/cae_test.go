package msal_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// nbf is what an API with continuous access evaluation wants of the next token.
const nbf = `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`

// capable tells whether the server was told that the client can handle challenges.
func capable(t *testing.T, tok tokencache.Token) bool {
	t.Helper()
	parts := strings.Split(string(tok.AccessToken), ".")
	if len(parts) != 3 {
		t.Fatal("the access token is no JWT")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	told := strings.Contains(string(b), `"xms_cc":["cp1"]`)
	if long := time.Until(tok.Expires) > 2*time.Hour; long != told {
		t.Errorf("capable: %v, and it lives for %v", told, time.Until(tok.Expires))
	}
	return told
}

// caeWorld is a world whose tokens of continuous access evaluation live longer.
func caeWorld(t *testing.T) *world {
	t.Helper()
	return newWorld(t, idp.Options{
		TokenLifetime: time.Hour, CAETokenLifetime: 20 * time.Hour, DeviceInterval: time.Second,
	})
}

// asking is who asks for tokens.
type asking struct {
	*world
	ctx context.Context
	ask func(context.Context, tokencache.Request) (tokencache.Token, error)
}

// want asks, and checks the kind of the token and what it has cost.
func (a asking) want(t *testing.T, req tokencache.Request, requests int64) tokencache.Token {
	t.Helper()
	asked := func() int64 {
		r := a.idp.Stats().TokenRequests
		return r.AuthorizationCode + r.RefreshToken + r.OnBehalfOf + r.ClientCredentials
	}
	before := asked()
	tok, err := a.ask(a.ctx, req)
	must(t, err)
	if got := capable(t, tok); got != req.CAE {
		t.Errorf("asked with CAE %v, got a token with %v", req.CAE, got)
	}
	if got := asked() - before; got != requests {
		t.Errorf("CAE %v: the server was asked %d times, want %d", req.CAE, got, requests)
	}
	return tok
}

// The kinds are kept apart in both directions, with and after a claims challenge, on
// another machine too, for users, for callers and for the application.
func TestCAE(t *testing.T) {
	t.Parallel()
	w := caeWorld(t)
	app, other, api := w.app(t), w.app(t), w.api(t)
	ticket := w.signIn(t, app, "anna", nil)
	user := app.of(t, ticket.Key())
	incoming := app.token(t, user, firstScope).AccessToken
	for name, c := range map[string]struct {
		one, two asking
	}{
		"user":         {asking{w, user, app.Acquire}, asking{w, other.of(t, ticket.Key()), other.Acquire}},
		"application":  {asking{w, t.Context(), app.AppToken}, asking{w, t.Context(), other.AppToken}},
		"on behalf of": {asking{w, api.incoming(t, incoming, "api://first"), api.Acquire}, asking{w, api.incoming(t, incoming, "api://first"), api.Acquire}},
	} {
		t.Run(name, func(t *testing.T) {
			scope := secondScope
			if name == "application" {
				scope = "api://second/.default"
			}
			plain := tokencache.Request{Scopes: []string{scope}}
			cae := tokencache.Request{Scopes: []string{scope}, CAE: true}
			c.one.want(t, plain, 1)
			long := c.one.want(t, cae, 1)
			c.two.want(t, plain, 0)
			c.two.want(t, cae, 0)
			challenged := cae
			challenged.Claims, challenged.Refused = nbf, long.AccessToken
			if c.two.want(t, challenged, 1).AccessToken == long.AccessToken {
				t.Error("the refused token came back")
			}
			c.one.want(t, challenged, 0)
			c.one.want(t, plain, 0)
			plain.Claims = nbf
			c.one.want(t, plain, 1)
		})
	}
	app.expire(t, ticket.Key())
	asking{w, user, app.Acquire}.want(t, tokencache.Request{Scopes: []string{secondScope}, CAE: true}, 1)
	asking{w, user, app.Acquire}.want(t, tokencache.Request{Scopes: []string{secondScope}}, 1)
	if s := w.idp.Stats(); s.RefreshReused != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestCAESingleFlight(t *testing.T) {
	t.Parallel()
	w := caeWorld(t)
	m := w.app(t)
	ctx := m.of(t, w.signIn(t, m, "anna", nil).Key())
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			cae := i%2 == 0
			tok, err := m.Acquire(ctx, tokencache.Request{Scopes: []string{secondScope}, CAE: cae})
			if err != nil || capable(t, tok) != cae {
				t.Errorf("CAE %v: %v, or a token of the other kind", cae, err)
			}
		})
	}
	wg.Wait()
	if s := w.idp.Stats(); s.TokenRequests.RefreshToken != 2 || s.RefreshReused != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A client that names the capability in its options has tokens of that kind alone, from
// each kind of sign-in on, and a client without it never gets them.
func TestCAECapabilities(t *testing.T) {
	t.Parallel()
	for name, capabilities := range map[string][]string{"cp1": {"cp1"}, "as others write it": {"llt", "CP1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := caeWorld(t)
			o := msal.Options{ClientSecret: appSecret, RedirectURL: callbackURL, Scopes: []string{mineScope}}
			plain := w.machine(t, "app", o)
			o.Capabilities = capabilities
			challenged := w.machine(t, "app", o)
			public := w.machine(t, "public", msal.Options{Scopes: []string{mineScope}, Capabilities: capabilities})
			ordinary := w.machine(t, "public", msal.Options{Scopes: []string{mineScope}})
			for how, c := range map[string]struct {
				signIn        func() tokencache.Key
				with, without *machine
			}{
				"code": {func() tokencache.Key { return w.signIn(t, challenged, "carla "+name, nil).Key() }, challenged, plain},
				"device": {func() tokencache.Key {
					d, err := public.BeginDevice(t.Context(), nil)
					must(t, err)
					must(t, w.idp.ApproveDevice(d.UserCode, "bob "+name))
					ticket, err := public.CompleteDevice(t.Context(), d)
					must(t, err)
					return ticket.Key()
				}, public, ordinary},
			} {
				key := c.signIn()
				req := tokencache.Request{Scopes: []string{mineScope}}
				with, without := c.with.of(t, key), c.without.of(t, key)
				before := w.idp.Stats().TokenRequests.RefreshToken
				if tok, err := c.with.Token(with, mineScope); err != nil || !capable(t, tok) {
					t.Errorf("%s: the token of the sign-in: %v, or an ordinary one", how, err)
				}
				if n := w.idp.Stats().TokenRequests.RefreshToken - before; n != 0 {
					t.Errorf("%s: the token of the sign-in was not found", how)
				}
				if tok, err := c.without.Acquire(without, req); err != nil || capable(t, tok) {
					t.Errorf("%s: a client without the capability: %v, or the other's token", how, err)
				}
				c.with.expire(t, key)
				for _, m := range []*machine{c.with, c.without, c.with} {
					tok, err := m.Acquire(m.of(t, key), req)
					if err != nil || capable(t, tok) != (m == c.with) {
						t.Errorf("%s, refreshed: %v, or a token of the other kind", how, err)
					}
				}
			}
			for _, m := range []*machine{challenged, plain, challenged} {
				tok, err := m.AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://second/.default"}})
				if err != nil || capable(t, tok) != (m == challenged) {
					t.Errorf("the application's own: %v, or a token of the other kind", err)
				}
			}
		})
	}
}

// An MSAL client of the application's own neither gets nor loses the tokens that were
// obtained with the capability, or for one resource.
func TestBoundExportReplace(t *testing.T) {
	t.Parallel()
	for name, bound := range map[string]tokencache.Request{
		"CAE": {Scopes: []string{stageMail}, CAE: true}, "resource": {Scopes: []string{stageMail}, Resource: "api://mail"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newStage(t)
			c := w.cache(w.provider())
			client, err := xoauth2.New(t.Context(), c, &xoauth2.Options{ClientSecret: idp.DefaultClientSecret, HTTPClient: w.http})
			must(t, err)
			p := c.Partition(w.enter(c, "anna").Key())
			ctx := tokencache.NewContext(t.Context(), p)
			own, err := client.Acquire(ctx, bound)
			must(t, err)
			first, cached := w.mustAsk(p, stageMail)
			if first == string(own.AccessToken) || cached {
				t.Error("MSAL hands out the token of the request that is bound")
			}
			if again, cached := w.mustAsk(p, stageMail); again != first || !cached {
				t.Error("MSAL's own token is not there")
			}
			before := w.requests("token")
			if again, err := client.Acquire(ctx, bound); err != nil || again.AccessToken != own.AccessToken || w.requests("token") != before {
				t.Errorf("the token of the request that is bound is gone: %v", err)
			}
			w.alive(p)
		})
	}
}

// An API's challenge may name claims that are no object, at which MSAL would panic.
func TestCAEClaimsOfNoObject(t *testing.T) {
	t.Parallel()
	w := caeWorld(t)
	app := w.app(t)
	user := app.of(t, w.signIn(t, app, "anna", nil).Key())
	for _, claims := range []string{"null", " null\n", "[]", `"cp1"`} {
		for _, cae := range []bool{false, true} {
			_, err := app.Acquire(user, tokencache.Request{Scopes: []string{mineScope}, Claims: claims, CAE: cae})
			if err == nil || errors.Is(err, tokencache.ErrNoTokens) || errors.Is(err, tokencache.ErrUnavailable) {
				t.Errorf("%q, CAE %v: %v", claims, cae, err)
			}
		}
	}
}
