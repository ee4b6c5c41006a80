package xoauth2_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// nbf is what an API with continuous access evaluation wants of the next token.
const nbf = `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`

// evaluated is a server whose tokens of continuous access evaluation live longer.
func evaluated() idp.Options {
	return idp.Options{TokenLifetime: time.Hour, CAETokenLifetime: 20 * time.Hour}
}

// capable tells whether the server was told that the client can handle challenges.
func capable(t *testing.T, tok tokencache.Token) bool {
	t.Helper()
	parts := strings.Split(string(tok.AccessToken), ".")
	var claims struct {
		Capabilities []string `json:"xms_cc"`
	}
	if len(parts) != 3 {
		t.Fatal("the access token is no JWT")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err = errors.Join(err, json.Unmarshal(b, &claims)); err != nil {
		t.Fatal(err)
	}
	told := slices.Contains(claims.Capabilities, "cp1")
	if long := time.Until(tok.Expires) > 2*time.Hour; long != told {
		t.Errorf("xms_cc %v, and it lives for %v", told, time.Until(tok.Expires))
	}
	return told
}

// kinds asks for tokens of both kinds and counts what that costs.
type kinds struct {
	ask    func(t *testing.T, req tokencache.Request) (tokencache.Token, error)
	server *idp.Server
}

func (k kinds) want(t *testing.T, req tokencache.Request, requests int64) tokencache.Token {
	t.Helper()
	asked := func() int64 {
		r := k.server.Stats().TokenRequests
		return r.AuthorizationCode + r.RefreshToken + r.OnBehalfOf + r.TokenExchange + r.ClientCredentials + r.DeviceCode + r.Password
	}
	before := asked()
	tok, err := k.ask(t, req)
	if err != nil {
		t.Fatal(err)
	}
	if got := capable(t, tok); got != req.CAE {
		t.Errorf("asked with CAE %v, got a token with %v", req.CAE, got)
	}
	if got := asked() - before; got != requests {
		t.Errorf("CAE %v: the server was asked %d times, want %d", req.CAE, got, requests)
	}
	return tok
}

// apart checks that the kinds are kept apart, whichever was there first, also where a
// claims challenge wants another token.
func (k kinds) apart(t *testing.T, req tokencache.Request) {
	t.Helper()
	cae := req
	cae.CAE = true
	k.want(t, cae, 1)
	k.want(t, req, 1)
	long := k.want(t, cae, 0)
	k.want(t, req, 0)
	cae.Claims, cae.Refused = nbf, long.AccessToken
	if k.want(t, cae, 1).AccessToken == long.AccessToken {
		t.Error("the refused token came back")
	}
	k.want(t, cae, 0)
	cae.Claims, cae.Refused = "", ""
	k.want(t, cae, 0)
	k.want(t, req, 0)
	req.Claims = nbf
	k.want(t, req, 1)
}

func TestCAE(t *testing.T) {
	t.Parallel()
	req := tokencache.Request{Scopes: []string{mailScope}}
	t.Run("user", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, config{entra: true, idp: evaluated()})
		ctx := f.signIn(t, "anna")
		k := kinds{func(_ *testing.T, r tokencache.Request) (tokencache.Token, error) { return f.client.Acquire(ctx, r) }, f.idp}
		signedIn := tokencache.Request{Scopes: []string{apiScope}}
		k.want(t, signedIn, 0) // that of the sign-in is an ordinary one
		signedIn.CAE = true
		k.want(t, signedIn, 1)
		k.apart(t, req)
		f.expire(t, ctx)
		k.apart(t, req)
	})
	t.Run("application", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, config{idp: evaluated()})
		kinds{func(t *testing.T, r tokencache.Request) (tokencache.Token, error) {
			return f.client.AppToken(t.Context(), r)
		}, f.idp}.apart(t, req)
	})
	for name, exchange := range map[string]bool{"on behalf of": false, "token exchange": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newChain(t, apiConfig{entra: !exchange, exchange: exchange, idp: evaluated()})
			ctx := l.request(t, l.incoming(t, "anna"))
			k := kinds{func(_ *testing.T, r tokencache.Request) (tokencache.Token, error) { return l.api.Acquire(ctx, r) }, l.idp}
			k.apart(t, tokencache.Request{Scopes: []string{secondScope}})
		})
	}
}

// Those who ask at once share a request with their kind alone.
func TestCAESingleFlight(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{entra: true, idp: evaluated()})
	ctx := f.signIn(t, "anna")
	f.fault(t, idp.Fault{Endpoint: "token", Delay: 50 * time.Millisecond, Times: 2})
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			cae := i%2 == 0
			tok, err := f.client.Acquire(ctx, tokencache.Request{Scopes: []string{mailScope}, CAE: cae})
			if err != nil || capable(t, tok) != cae {
				t.Errorf("CAE %v: %v, or a token of the other kind", cae, err)
			}
		})
	}
	wg.Wait()
	if s := f.idp.Stats(); s.TokenRequests.RefreshToken != 2 || s.RefreshReused != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A client that always asks so stores what comes with a sign-in as it was asked for.
func TestCAEClient(t *testing.T) {
	t.Parallel()
	o := evaluated()
	o.Passwords, o.DeviceInterval = passwords, time.Second
	o.Clients = []idp.Client{{
		ID: idp.DefaultClientID, Secret: idp.DefaultClientSecret, RedirectURIs: []string{callbackURL}, Audiences: []string{apiScope[:strings.LastIndexByte(apiScope, '/')]},
	}}
	f := newFixture(t, config{entra: true, idp: o})
	ordinary := f.client
	f.client = newClient(t, f.cache, &xoauth2.Options{
		ClientSecret: idp.DefaultClientSecret, RedirectURL: callbackURL, Scopes: []string{"profile", apiScope}, HTTPClient: httpClient(t), CAE: true,
	})
	keyed := func(ticket tokencache.Ticket, err error) context.Context {
		if err != nil {
			t.Fatal(err)
		}
		return tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key()))
	}
	for name, signIn := range map[string]func(t *testing.T) context.Context{
		"code": func(t *testing.T) context.Context { return f.signIn(t, "carla") },
		"password": func(t *testing.T) context.Context {
			return keyed(f.client.SignInWithPassword(t.Context(), "anna", annasPassword, nil))
		},
		"device": func(t *testing.T) context.Context {
			ctx, err := f.signInDevice(t, "bob")
			if err != nil {
				t.Fatal(err)
			}
			return ctx
		},
		"session": func(t *testing.T) context.Context {
			incoming, err := ordinary.Token(f.signIn(t, "dora"), apiScope)
			if err != nil {
				t.Fatal(err)
			}
			a, err := tokencache.VerifyAssertion(t.Context(), f.client.Verifier(apiScope[:strings.LastIndexByte(apiScope, '/')]), string(incoming.AccessToken))
			if err != nil {
				t.Fatal(err)
			}
			return keyed(f.client.StartSession(tokencache.NewAssertionContext(t.Context(), a), "job", apiScope))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := signIn(t)
			ask := func(c *xoauth2.Client) kinds {
				return kinds{func(_ *testing.T, r tokencache.Request) (tokencache.Token, error) { // as Token asks
					tok, err := c.Token(ctx, r.Scopes...)
					return tok, err
				}, f.idp}
			}
			cae, plain := tokencache.Request{Scopes: []string{apiScope}, CAE: true}, tokencache.Request{Scopes: []string{apiScope}}
			ask(f.client).want(t, cae, 0) // that of the sign-in
			ask(ordinary).want(t, plain, 1)
			ask(f.client).want(t, cae, 0)
			f.expire(t, ctx)
			ask(f.client).want(t, cae, 1)
			ask(ordinary).want(t, plain, 1)
		})
	}
	app, err := f.client.AppToken(t.Context(), tokencache.Request{Scopes: []string{mailScope}})
	if err != nil || !capable(t, app) {
		t.Errorf("the application's own: %v, or an ordinary one", err)
	}
}

// The challenge of an API is met with a token of the same kind, and what the sign-in
// then asks for is the API's claims alone.
func TestCAETransport(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{entra: true, idp: evaluated()})
	f.client = newClient(t, f.cache, &xoauth2.Options{
		ClientSecret: idp.DefaultClientSecret, RedirectURL: callbackURL, Scopes: []string{apiScope}, HTTPClient: httpClient(t), CAE: true,
	})
	ctx := f.signIn(t, "anna")
	var mu sync.Mutex
	var first string
	api := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if first == "" {
			first = r.Header.Get("Authorization")
		}
		if r.Header.Get("Authorization") == first {
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_claims", claims="`+base64.StdEncoding.EncodeToString([]byte(nbf))+`"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	hc := f.apiClient(t, api.URL)
	status, _, err := call(t, hc, request(t, ctx, http.MethodGet, api.URL, nil))
	if err != nil || status != http.StatusOK {
		t.Fatalf("got %d, %v", status, err)
	}
	sent := api.headers()
	for _, header := range sent {
		tok := tokencache.Token{AccessToken: tokencache.Secret(strings.TrimPrefix(header, "Bearer ")), Expires: time.Now().Add(3 * time.Hour)}
		if !capable(t, tok) {
			t.Error("an ordinary token was sent")
		}
	}
	if len(sent) != 2 || sent[0] == sent[1] {
		t.Errorf("%d requests, or the same token twice", len(sent))
	}
	if err := f.idp.RequireInteraction("anna", nbf); err != nil {
		t.Fatal(err)
	}
	f.expire(t, ctx)
	mu.Lock()
	first = ""
	mu.Unlock()
	_, _, err = call(t, hc, request(t, ctx, http.MethodGet, api.URL, nil))
	var e *tokencache.InteractionRequiredError
	if !errors.As(err, &e) || e.Claims != nbf {
		t.Errorf("got %v, want an InteractionRequiredError with the API's claims", err)
	}
}

// What is sent: in each request that brings an access token, and where the user is sent.
func TestCAERequests(t *testing.T) {
	t.Parallel()
	const want = `{"access_token":{"nbf":{"essential":true,"value":"1"},"xms_cc":{"values":["cp1"]}}}`
	f := newFake(t, "")
	_, c := f.client(t, &xoauth2.Options{ClientSecret: "marker-secret", CAE: true})
	if authURL, _, err := c.BeginSignIn(&xoauth2.SignInOptions{Claims: nbf}); err != nil || !strings.Contains(authURL, "xms_cc") || !strings.Contains(authURL, "nbf") {
		t.Errorf("BeginSignIn: %v, or other claims", err)
	}
	f.answer(reply{body: map[string]any{"access_token": "marker-access", "token_type": "Bearer"}})
	if _, err := c.AppToken(t.Context(), tokencache.Request{Scopes: []string{"read"}, Claims: nbf}); err != nil {
		t.Fatal(err)
	}
	if got := f.last(t).PostForm.Get("claims"); got != want {
		t.Errorf("sent the claims %s", got)
	}
	n := len(f.requests)
	for _, claims := range []string{"marker", "null", "\tnull", "[]", `{"access_token":5}`} {
		_, err := c.AppToken(t.Context(), tokencache.Request{Scopes: []string{"read"}, Claims: claims})
		if err == nil || strings.Contains(err.Error(), "marker") {
			t.Errorf("claims that nothing can be added to: %v", err)
		}
	}
	if _, _, err := c.BeginSignIn(&xoauth2.SignInOptions{Claims: `{"access_token":5}`}); err == nil {
		t.Error("BeginSignIn accepted claims that nothing can be added to")
	}
	if len(f.requests) != n {
		t.Error("the server was asked all the same")
	}

	d := newDeviceFake(t, "")
	device := newClient(t, newCache(t, d.issuer(), nil), &xoauth2.Options{Scopes: []string{"read"}, HTTPClient: httpClient(t), CAE: true})
	d.answer(reply{body: codes(nil)})
	if _, err := device.BeginDevice(t.Context(), &xoauth2.DeviceOptions{Claims: nbf}); err != nil {
		t.Fatal(err)
	}
	if got := d.last(t).PostForm.Get("claims"); got != want {
		t.Errorf("BeginDevice sent the claims %s", got)
	}
	if _, err := device.BeginDevice(t.Context(), &xoauth2.DeviceOptions{Claims: `{"access_token":5}`}); err == nil {
		t.Error("BeginDevice accepted claims that nothing can be added to")
	}
}
