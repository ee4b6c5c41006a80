package msal_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// served asks another machine, which must not ask the server.
func (w *world) served(t *testing.T, ctx context.Context, m *machine, scope string, want tokencache.Token) {
	t.Helper()
	before := w.idp.Stats().TokenRequests
	if got := m.token(t, ctx, scope); got.AccessToken != want.AccessToken {
		t.Error("another machine got another token")
	}
	if after := w.idp.Stats().TokenRequests; after != before {
		t.Errorf("the server was asked: %+v, before %+v", after, before)
	}
}

// refreshed asks a machine, which must ask the server once, and returns the new token.
func (w *world) refreshed(t *testing.T, m *machine, key tokencache.Key, scope string) tokencache.Token {
	t.Helper()
	m.expire(t, key)
	before := w.idp.Stats().TokenRequests
	got := m.token(t, m.of(t, key), scope)
	before.RefreshToken++
	if after := w.idp.Stats(); after.TokenRequests != before || after.RefreshReused != 0 {
		t.Errorf("the server was asked %+v, want %+v; reused: %d", after.TokenRequests, before, after.RefreshReused)
	}
	return got
}

// Codes, refreshes with strict rotation, and a second scope that is obtained silently: one
// machine asks, the other finds.
func TestAuthorizationCode(t *testing.T) {
	t.Parallel()
	for _, client := range []string{"app", "public"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, idp.Options{})
			start := func() *machine {
				o := msal.Options{RedirectURL: callbackURL, Scopes: []string{"profile", mineScope, secondScope}}
				if client == "app" {
					o.ClientSecret = appSecret
				}
				return w.machine(t, client, o)
			}
			one, two := start(), start()
			ticket := w.signIn(t, one, "anna", nil)
			w.served(t, two.of(t, ticket.Key()), two, mineScope, one.token(t, one.of(t, ticket.Key()), mineScope))
			for range 3 {
				w.served(t, two.of(t, ticket.Key()), two, mineScope, w.refreshed(t, one, ticket.Key(), mineScope))
				w.served(t, one.of(t, ticket.Key()), one, secondScope, two.token(t, two.of(t, ticket.Key()), secondScope))
			}
			tokens, err := one.cache.Partition(ticket.Key()).Tokens(t.Context())
			must(t, err)
			if all := tokens.Accounts(); len(all) != 1 || all[0].Username != "anna@contoso.test" || all[0].ID != ticket.Account() {
				t.Error("the account is not that of the ID token")
			}
			must(t, one.SignOut(one.of(t, ticket.Key())))
			if _, err := two.Token(two.of(t, ticket.Key()), mineScope); !errors.Is(err, tokencache.ErrRemoved) {
				t.Errorf("after the sign-out: %v", err)
			}
		})
	}
}

// All who need a new token at once cost one request.
func TestOneRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	machines := []*machine{w.app(t), w.app(t), w.app(t)}
	ticket := w.signIn(t, machines[0], "anna", nil)
	machines[0].expire(t, ticket.Key())
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			m := machines[i%len(machines)]
			if _, err := m.Token(m.of(t, ticket.Key()), mineScope); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if st := w.idp.Stats(); st.TokenRequests.RefreshToken != 1 || st.RefreshReused != 0 {
		t.Errorf("%d refreshes, %d reused", st.TokenRequests.RefreshToken, st.RefreshReused)
	}
}

// On behalf of a caller, twice and on two machines, asks the server once for each scope;
// the work that goes on after the caller has gone is refreshed like a user's, and signing
// out ends both.
func TestOnBehalfOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	app, one, two := w.app(t), w.api(t), w.api(t)
	ticket := w.signIn(t, app, "anna", nil)
	incoming := app.token(t, app.of(t, ticket.Key()), firstScope).AccessToken
	for _, scope := range []string{secondScope, thirdScope} {
		first := one.token(t, one.incoming(t, incoming, "api://first"), scope)
		w.served(t, one.incoming(t, incoming, "api://first"), one, scope, first)
		w.served(t, two.incoming(t, incoming, "api://first"), two, scope, first)
	}
	if n := w.idp.Stats().TokenRequests.OnBehalfOf; n != 2 {
		t.Errorf("the server was asked %d times for two scopes", n)
	}
	work, err := one.StartSession(one.incoming(t, incoming, "api://first"), "marker-work", secondScope)
	must(t, err)
	w.served(t, two.of(t, work.Key()), two, secondScope, one.token(t, one.of(t, work.Key()), secondScope))
	w.refreshed(t, two, work.Key(), secondScope)

	ctx := two.incoming(t, incoming, "api://first")
	must(t, one.SignOutEverywhere(one.of(t, work.Key())))
	for _, ctx := range []context.Context{ctx, one.of(t, work.Key())} {
		if _, err := one.Token(ctx, secondScope); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("after the sign-out: %v", err)
		}
	}
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	one, two := w.api(t), w.api(t)
	for _, scope := range []string{"api://second/.default", "api://third/.default"} {
		req := tokencache.Request{Scopes: []string{scope}}
		want, err := one.AppToken(t.Context(), req)
		must(t, err)
		got, err := two.AppToken(t.Context(), req)
		must(t, err)
		if got.AccessToken != want.AccessToken {
			t.Error("another machine got another token")
		}
	}
	if n := w.idp.Stats().TokenRequests.ClientCredentials; n != 2 {
		t.Errorf("the server was asked %d times for two resources", n)
	}
	if _, err := w.machine(t, "public", msal.Options{}).AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://x/.default"}}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a public client: %v", err)
	}
}

// A key in place of a secret: MSAL's own certificate credential, an assertion that the
// application signs, and one that the platform has written into a file.
func TestCredentials(t *testing.T) {
	t.Parallel()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "certified"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	credential, err := confidential.NewCredFromCert([]*x509.Certificate{certificate}, key)
	must(t, err)
	assertion, err := xoauth2.SignAssertion("signer", ec, nil)
	must(t, err)
	for client, o := range map[string]msal.Options{
		"certified": {Credential: &credential},
		"signer":    {ClientAssertion: assertion},
	} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			redirect := []string{"http://127.0.0.1/callback"}
			w := newWorld(t, idp.Options{Clients: []idp.Client{
				{ID: "signer", Key: ec.Public(), RedirectURIs: redirect},
				{ID: "certified", Certificate: certificate, RedirectURIs: redirect},
			}})
			o.RedirectURL, o.Scopes = callbackURL, []string{mineScope}
			m := w.machine(t, client, o)
			ticket := w.signIn(t, m, "anna", nil)
			w.refreshed(t, m, ticket.Key(), mineScope)
			_, err := m.AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://second/.default"}})
			must(t, err)
		})
	}
}

func TestTokenProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	asked := 0
	credential := confidential.NewCredFromTokenProvider(
		func(_ context.Context, p confidential.TokenProviderParameters) (confidential.TokenProviderResult, error) {
			asked++
			return confidential.TokenProviderResult{AccessToken: "marker-provided", ExpiresInSeconds: 3600, RefreshInSeconds: 1800}, nil
		})
	m := w.machine(t, "first", msal.Options{Credential: &credential})
	for range 3 {
		tok, err := m.AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://second/.default"}})
		must(t, err)
		if left := time.Until(tok.Expires); tok.AccessToken != "marker-provided" || left < 50*time.Minute || left > time.Hour {
			t.Errorf("another token, or one for %v", left)
		}
	}
	if asked != 1 {
		t.Errorf("the token provider was asked %d times", asked)
	}
}

func TestDeviceCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{DeviceInterval: time.Second})
	m := w.machine(t, "public", msal.Options{Scopes: []string{secondScope}})
	d, err := m.BeginDevice(t.Context(), nil)
	must(t, err)
	w.fault(t, idp.Fault{Endpoint: "token", Kind: "garbage"}) // which is waited for
	go func() {
		time.Sleep(1500 * time.Millisecond) // so that it is asked for in vain at first
		if err := w.idp.ApproveDevice(d.UserCode, "anna"); err != nil {
			t.Error(err)
		}
	}()
	ticket, err := m.CompleteDevice(t.Context(), d)
	must(t, err)
	w.refreshed(t, m, ticket.Key(), secondScope)
	if n := w.idp.Stats().TokenRequests.DeviceCode; n < 2 || n > 4 {
		t.Errorf("the server was asked %d times", n)
	}

	asked := w.idp.Stats().TokenRequests.DeviceCode
	if _, err := m.CompleteDevice(t.Context(), d); !errors.Is(err, xoauth2.ErrDeviceCode) {
		t.Errorf("completed twice: %v", err)
	}
	if n := w.idp.Stats().TokenRequests.DeviceCode; n != asked {
		t.Error("the sign-in is kept, with its tokens, after it was completed")
	}

	d, err = m.BeginDevice(t.Context(), nil)
	must(t, err)
	must(t, w.idp.DenyDevice(d.UserCode))
	if _, err := m.CompleteDevice(t.Context(), d); !errors.Is(err, xoauth2.ErrDenied) {
		t.Errorf("denied: %v", err)
	}
	if _, err := w.app(t).BeginDevice(t.Context(), nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a client with a secret: %v", err)
	}
}

// What the server wants of the user comes with its claims, and the sign-in that has them
// ends it; a challenge of an API goes to the server with the refresh.
func TestClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	m := w.app(t)
	ticket := w.signIn(t, m, "anna", nil)
	const claims = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	must(t, w.idp.RequireInteraction("anna", claims))
	m.expire(t, ticket.Key())
	_, err := m.Token(m.of(t, ticket.Key()), mineScope)
	var needed *tokencache.InteractionRequiredError
	if !errors.As(err, &needed) || needed.Claims != claims {
		t.Fatalf("got %v", err)
	}
	ticket = w.signIn(t, m, "anna", &xoauth2.SignInOptions{Claims: needed.Claims})
	w.refreshed(t, m, ticket.Key(), mineScope)

	tok, err := m.Acquire(m.of(t, ticket.Key()), tokencache.Request{Scopes: []string{mineScope}, Claims: claims})
	must(t, err)
	if again, err := m.Token(m.of(t, ticket.Key()), mineScope); err != nil || again.AccessToken == tok.AccessToken {
		t.Errorf("the token with claims is another one: %v", err)
	}
}

// Before a password is sent, MSAL asks where the user belongs. A name that belongs nowhere
// is wrong like any other, and no mistake in the options.
func TestPasswordOfNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{Passwords: map[string]string{"anna": "marker-password"}})
	for name, m := range map[string]*machine{
		"confidential": w.app(t),
		"public":       w.machine(t, "public", msal.Options{Scopes: []string{secondScope}}),
	} {
		_, err := m.SignInWithPassword(t.Context(), strings.Repeat("marker-nobody", 100), "marker-password", nil)
		if !errors.Is(err, xoauth2.ErrPassword) {
			t.Errorf("%s: %v", name, err)
		}
		clean(t, err, "marker")
	}
}
