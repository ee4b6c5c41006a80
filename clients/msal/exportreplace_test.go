package msal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	msalcache "github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// provider is an empty store.
func (w *stage) provider() tokencache.Provider {
	w.t.Helper()
	p, err := memory.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = p.Close(context.WithoutCancel(w.t.Context())) })
	return p
}

// cache is a machine's. It keeps no copies, so that it asks the provider.
func (w *stage) cache(p tokencache.Provider) *tokencache.Cache {
	w.t.Helper()
	return w.cacheWith(p, &tokencache.Options{L1MaxAge: time.Nanosecond})
}

func (w *stage) cacheWith(p tokencache.Provider, o *tokencache.Options) *tokencache.Cache {
	w.t.Helper()
	c, err := tokencache.New(p, tokencache.Namespace{Issuer: w.idp.TenantURL(), ClientID: idp.DefaultClientID}, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 20*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			w.t.Error(err)
		}
	})
	return c
}

// verifier is go-oidc's.
func (w *stage) verifier(nonce string) func(context.Context, string) error {
	w.t.Helper()
	ctx := oidc.ClientContext(w.t.Context(), w.http)
	p, err := oidc.NewProvider(ctx, w.idp.TenantURL())
	if err != nil {
		w.t.Fatal(err)
	}
	v := p.Verifier(&oidc.Config{ClientID: idp.DefaultClientID})
	return func(ctx context.Context, idToken string) error {
		token, err := v.Verify(ctx, idToken)
		if err == nil && token.Nonce != nonce {
			err = errors.New("another nonce")
		}
		return err
	}
}

// byCode acquires a user's first tokens.
func (w *stage) byCode(user string) func(context.Context, msalcache.ExportReplace) (confidential.AuthResult, error) {
	return func(ctx context.Context, accessor msalcache.ExportReplace) (confidential.AuthResult, error) {
		code, verifier := w.authorize(user, "nonce", stageAPI)
		return w.client(accessor).AcquireTokenByAuthCode(ctx, code, stageCallback, []string{stageAPI}, confidential.WithChallenge(verifier))
	}
}

// enter signs a user in to a cache.
func (w *stage) enter(c *tokencache.Cache, user string) tokencache.Ticket {
	w.t.Helper()
	ticket, err := c.SignIn(w.t.Context(), msal.Exchange(w.byCode(user), w.verifier("nonce")))
	if err != nil {
		w.t.Fatal(err)
	}
	return ticket
}

// ask is a call with a client of its own.
func (w *stage) ask(ctx context.Context, p *tokencache.Partition, scopes ...string) (confidential.AuthResult, error) {
	return w.silent(ctx, w.client(msal.NewExportReplace(p)), p.Key().Account(), scopes...)
}

// mustAsk returns the access token, and whether it was cached.
func (w *stage) mustAsk(p *tokencache.Partition, scope string) (token string, cached bool) {
	w.t.Helper()
	ar, err := w.ask(w.t.Context(), p, scope)
	if err != nil {
		w.t.Fatalf("%s: %v", scope, err)
	}
	return ar.AccessToken, ar.Metadata.TokenSource == confidential.TokenSourceCache
}

// alive fails the test unless the user's tokens can be refreshed, without the server
// having seen a refresh token twice.
func (w *stage) alive(p *tokencache.Partition) {
	w.t.Helper()
	if _, err := w.ask(w.t.Context(), p, "api://later/Read"); err != nil {
		w.t.Errorf("the user is signed out: %v", err)
	}
	if n := w.idp.Stats().RefreshReused; n != 0 {
		w.t.Errorf("%d refresh tokens were used twice", n)
	}
}

// refreshTokens counts those that are stored.
func (w *stage) refreshTokens(p *tokencache.Partition) (n int) {
	w.t.Helper()
	tokens, err := p.Tokens(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range tokens.Entries() {
		if e.Kind == "refresh" {
			n++
		}
	}
	return n
}

// What MSAL obtains on one machine is found on the other, by MSAL and by the cache; every
// refresh token is spent once, though the server rotates them.
func TestExportReplace(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	store := w.provider()
	one, two := w.cache(store), w.cache(store)
	key := w.enter(one, "anna").Key()
	here, there := one.Partition(key), two.Partition(key)
	first, cached := w.mustAsk(there, stageAPI)
	if !cached {
		t.Error("the token of the sign-in is not found")
	}
	if err := there.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, p := range []*tokencache.Partition{here, there, here, there} {
		if _, cached := w.mustAsk(p, fmt.Sprintf("api://number-%d/Read", i)); cached {
			t.Error("a token of another scope was served")
		}
		if n := w.refreshTokens(p); n != 1 {
			t.Errorf("%d refresh tokens are stored, want 1", n)
		}
	}
	for i := range 4 {
		scope := fmt.Sprintf("api://number-%d/Read", i)
		ours, err := here.Token(t.Context(), tokencache.Request{Scopes: []string{scope}}, nil)
		if err != nil {
			t.Fatalf("the cache does not find the token for %s: %v", scope, err)
		}
		if token, cached := w.mustAsk(there, scope); !cached || token != string(ours.AccessToken) {
			t.Errorf("MSAL finds another token for %s than the cache", scope)
		}
	}
	if again, cached := w.mustAsk(here, stageAPI); cached || again == first {
		t.Error("what was expired is served")
	}
	w.alive(here)
}

// What another library's client has stored has other keys for the same items.
func TestExportReplaceOfOtherTokens(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	c := w.cache(w.provider())
	ar := w.signIn(w.client(nil), "anna") // for its account and access token; there is no way to the refresh token
	samples := newSamples()
	other := w.signIn(w.client(samples), "anna")
	ticket, err := c.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
		return tokencache.Grant{
			AccessToken: tokencache.Secret(ar.AccessToken), Scopes: ar.GrantedScopes, Expires: ar.ExpiresOn,
			RefreshToken: tokencache.Secret(blobRefreshToken(samples.get(other.Account.HomeAccountID))), IDToken: tokencache.Secret(ar.IDToken.RawToken),
			Account: tokencache.Account{ID: ar.Account.HomeAccountID, LocalID: ar.Account.LocalAccountID, Tenant: idp.DefaultTenant},
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p := c.Partition(ticket.Key())
	if token, cached := w.mustAsk(p, stageAPI); !cached || token != ar.AccessToken {
		t.Error("MSAL does not find the cache's own token")
	}
	for i := range 3 {
		w.mustAsk(p, fmt.Sprintf("api://number-%d/Read", i))
	}
	if n := w.refreshTokens(p); n != 1 {
		t.Errorf("%d refresh tokens are stored, want 1", n)
	}
	w.alive(p)
}

func TestPartitionKeys(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	c := w.cache(w.provider())
	ticket := w.enter(c, "anna")
	account := ticket.Account()
	const hash = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="
	const refused, empty, filled = "refused", "empty", "filled"
	for name, test := range map[string]struct {
		key       tokencache.Key
		hint      string
		want      string
		wantStore bool
	}{
		"the account":                   {ticket.Key(), account, filled, true},
		"nothing":                       {ticket.Key(), "", refused, false},
		"another account":               {ticket.Key(), "x" + account[1:], refused, false},
		"the beginning":                 {ticket.Key(), account[:8], refused, false},
		"another case":                  {ticket.Key(), strings.ToUpper(account), refused, false},
		"the application":               {ticket.Key(), "client_tenant_AppTokenCache", refused, false},
		"an assertion":                  {ticket.Key(), hash, empty, false},
		"an unpadded hash":              {ticket.Key(), hash[:43], refused, false},
		"almost a hash":                 {ticket.Key(), "." + hash[1:], refused, false},
		"an account that is like it":    {tokencache.AccountKey(hash), hash, refused, true}, // it has no tokens
		"the application's":             {tokencache.ApplicationKey("", "api://x"), "client_tenant_AppTokenCache", empty, true},
		"the application's and account": {tokencache.ApplicationKey("", "api://x"), account, refused, false},
		"the application's and nothing": {tokencache.ApplicationKey("", "api://x"), "", refused, false},
		"the application's, on behalf":  {tokencache.ApplicationKey("", "api://x"), hash, empty, false},
		"no key":                        {tokencache.Key{}, "client_tenant_AppTokenCache", refused, true},
	} {
		t.Run(name, func(t *testing.T) {
			x, m := msal.NewExportReplace(c.Partition(test.key)), &manager{text: []byte("{}")}
			err := x.Replace(t.Context(), m, msalcache.ReplaceHints{PartitionKey: test.hint})
			got := empty
			switch {
			case err != nil:
				got = refused
			case len(m.given) > 2:
				got = filled
			}
			if got != test.want {
				t.Errorf("Replace: %s, want %s (%v)", got, test.want, err)
			}
			err = x.Export(t.Context(), m, msalcache.ExportHints{PartitionKey: test.hint})
			if m.marshalled != test.wantStore && err == nil {
				t.Errorf("Export looked at the tokens: %v, want %v", m.marshalled, test.wantStore)
			}
			for _, shown := range []string{account, hash, "tenant"} {
				if err != nil && strings.Contains(err.Error(), shown) {
					t.Error("the error shows whom it is about")
				}
			}
		})
	}
}

// manager is an MSAL client's memory.
type manager struct {
	text, given []byte
	marshalled  bool
}

func (m *manager) Unmarshal(b []byte) error {
	m.given = b
	return nil
}

func (m *manager) Marshal() ([]byte, error) {
	m.marshalled = true
	return m.text, nil
}

func TestRemoveAccountIsRefused(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	c := w.cache(w.provider())
	p := c.Partition(w.enter(c, "anna").Key())
	client := w.client(msal.NewExportReplace(p))
	account, err := client.Account(t.Context(), p.Key().Account())
	if err != nil || account.PreferredUsername != "anna@contoso.test" {
		t.Fatalf("the account is not found: %v", err)
	}
	if err := client.RemoveAccount(t.Context(), account); err == nil {
		t.Error("RemoveAccount pretends to have worked")
	}
	w.alive(p)
}

// On behalf of a user nothing is cached, and nothing fails for it.
func TestOnBehalfOfIsNotStored(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	faults := providertest.NewFaults(w.provider())
	c := w.cache(faults)
	p := c.Partition(w.enter(c, "anna").Key())
	token, _ := w.mustAsk(p, stageAPI)
	api := w.middleTier(msal.NewExportReplace(p))
	before := faults.Calls()
	for range 2 {
		if _, err := api.AcquireTokenOnBehalfOf(t.Context(), token, []string{stageMail}); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.idp.Stats().TokenRequests.OnBehalfOf; n != 2 || faults.Calls() != before {
		t.Errorf("%d requests on behalf, and %d calls of the provider, want 2 and 0", n, faults.Calls()-before)
	}
}

// The application's own tokens: cached, and to be had without the store.
func TestApplicationTokens(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	faults := providertest.NewFaults(w.provider())
	c := w.cache(faults)
	ask := func() (cached bool) {
		t.Helper()
		p := c.Partition(tokencache.ApplicationKey("", "api://mail"))
		ar, err := w.client(msal.NewExportReplace(p)).AcquireTokenByCredential(t.Context(), []string{"api://mail/.default"})
		if err != nil {
			t.Fatal(err)
		}
		return ar.Metadata.TokenSource == confidential.TokenSourceCache
	}
	if ask() || !ask() {
		t.Error("the first was cached, or the second was not")
	}
	faults.Set(providertest.Down())
	if ask() {
		t.Error("cached, without a store")
	}
	if n := w.idp.Stats().TokenRequests.ClientCredentials; n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	faults.Clear()
	user := msal.NewExportReplace(c.Partition(w.enter(c, "anna").Key()))
	if _, err := w.client(user).AcquireTokenByCredential(t.Context(), []string{"api://mail/.default"}); err == nil {
		t.Error("the application's token is stored with a user's")
	}
}

// The errors that MSAL returns are the cache's.
func TestErrorsThroughMSAL(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	faults := providertest.NewFaults(w.provider())
	c := w.cache(faults)
	p := c.Partition(w.enter(c, "anna").Key())
	want := func(p *tokencache.Partition, want, not error) {
		t.Helper()
		if _, err := w.ask(t.Context(), p, stageAPI); !errors.Is(err, want) || not != nil && errors.Is(err, not) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	want(c.Partition(tokencache.AccountKey("nobody.known")), tokencache.ErrNoTokens, tokencache.ErrRemoved)
	faults.Set(providertest.Down())
	want(p, tokencache.ErrUnavailable, tokencache.ErrNoTokens)
	faults.Clear()
	if err := p.SignOut(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	want(c.Partition(p.Key()), tokencache.ErrRemoved, nil)
	m := &manager{given: []byte("what was there before")}
	err := msal.NewExportReplace(c.Partition(p.Key())).Replace(t.Context(), m, msalcache.ReplaceHints{PartitionKey: p.Key().Account()})
	if err == nil || m.given != nil {
		t.Error("the client keeps the tokens of who has signed out")
	}
	if n := w.idp.Stats().TokenRequests.RefreshToken; n != 0 {
		t.Errorf("%d refreshes, want none", n)
	}
}

// The partition is that of each call's context, and a context without one is nobody's.
func TestContextExportReplace(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	c := w.cache(w.provider())
	accessor := msal.NewContextExportReplace(c)
	shared := w.client(accessor)
	users := []*tokencache.Partition{c.Partition(w.enter(c, "anna").Key()), c.Partition(w.enter(c, "berta").Key())}
	seen := map[string]bool{}
	for _, client := range []confidential.Client{w.client(accessor), shared, shared} { // one after the other
		for i, p := range users {
			ctx := tokencache.NewContext(t.Context(), p)
			ar, err := w.silent(ctx, client, p.Key().Account(), "api://context/Read")
			if err != nil {
				t.Fatal(err)
			}
			seen[ar.AccessToken] = true
			if _, err := w.silent(ctx, client, users[1-i].Key().Account(), "api://context/Read"); err == nil {
				t.Error("another user's token, for the context of this one")
			}
		}
	}
	if len(seen) != len(users) {
		t.Errorf("%d tokens for %d users", len(seen), len(users))
	}
	if _, err := w.silent(t.Context(), shared, users[0].Key().Account(), "api://context/Read"); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("without a partition: %v", err)
	}
	for _, p := range users {
		w.alive(p)
	}
}
