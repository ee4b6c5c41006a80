package xoauth2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestRefreshOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]config{"plain": {}, "entra": {entra: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, c)
			ctx := f.signIn(t, "anna")
			first, err := f.client.Token(ctx, apiScope)
			if err != nil {
				t.Fatal(err)
			}
			f.expire(t, ctx)
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					tok, err := f.client.Token(ctx, apiScope)
					if err != nil {
						t.Error(err)
					} else if tok.AccessToken == first.AccessToken {
						t.Error("the old token came again")
					}
				})
			}
			wg.Wait()
			if s := f.idp.Stats(); s.TokenRequests.RefreshToken != 1 || s.RefreshReused != 0 {
				t.Errorf("stats %+v, want one refresh", s)
			}
		})
	}
}

func TestSecondAudience(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{entra: true})
	ctx := f.signIn(t, "anna")
	for range 2 {
		mail, err := f.client.Token(ctx, mailScope)
		if err != nil {
			t.Fatal(err)
		}
		if status, _ := f.me(t, mail); status != http.StatusUnauthorized {
			t.Errorf("the API takes another audience's token: %d", status)
		}
		own, err := f.client.Token(ctx, apiScope)
		if err != nil {
			t.Fatal(err)
		}
		if status, _ := f.me(t, own); status != http.StatusOK {
			t.Errorf("the API refuses its own token: %d", status)
		}
	}
	if s := f.idp.Stats(); s.TokenRequests.RefreshToken != 1 {
		t.Errorf("%d refreshes, want 1", s.TokenRequests.RefreshToken)
	}
}

func TestResource(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	tok, err := f.client.Acquire(ctx, tokencache.Request{Resource: idp.DefaultAudience, Scopes: []string{"Data.Read"}})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := f.me(t, tok); status != http.StatusOK || tok.Resource != idp.DefaultAudience {
		t.Errorf("%d %s, resource %q", status, body, tok.Resource)
	}
}

// TestRefreshFaults goes on to check that the next call works: whatever the
// server had rotated must have been kept.
func TestRefreshFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault idp.Fault
		entra bool
		lost  bool // the new refresh token never came, or must not be used
		is    error
		says  string
	}{
		"503":                   {fault: idp.Fault{Status: 503}, says: "503"},
		"429":                   {fault: idp.Fault{Status: 429}},
		"garbage":               {fault: idp.Fault{Kind: "garbage"}},
		"huge":                  {fault: idp.Fault{Kind: "huge"}, says: "1 MiB"},
		"hang":                  {fault: idp.Fault{Kind: "hang"}, says: "no answer in time"},
		"drop":                  {fault: idp.Fault{Kind: "drop"}, lost: true},
		"wrong audience":        {fault: idp.Fault{Kind: "wrong_audience"}, is: xoauth2.ErrIDToken, says: "audience"},
		"wrong audience, Entra": {entra: true, fault: idp.Fault{Kind: "wrong_audience"}, is: xoauth2.ErrIDToken, says: "audience"},
		"foreign subject":       {fault: idp.Fault{Kind: "foreign_subject"}, is: xoauth2.ErrIDToken, says: "another user", lost: true},
		"foreign, Entra":        {entra: true, fault: idp.Fault{Kind: "foreign_subject"}, is: xoauth2.ErrIDToken, says: "another user", lost: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, config{entra: tt.entra, timeout: 2 * time.Second})
			ctx := f.signIn(t, "anna")
			f.expire(t, ctx)
			tt.fault.Endpoint = "token"
			f.fault(t, tt.fault)
			_, err := f.client.Token(ctx, apiScope)
			var down *tokencache.ServerError
			if !errors.As(err, &down) || errors.Is(err, tokencache.ErrNoTokens) {
				t.Fatalf("got %v, want a ServerError", err)
			}
			if tt.fault.Status != 0 && down.RetryAfter != time.Second {
				t.Errorf("RetryAfter %v, want 1s", down.RetryAfter)
			}
			if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v with %q", err, tt.is, tt.says)
			}
			account, _ := f.cache.FromContext(ctx)
			clean(t, err, account.Key().Account())
			tok, err := f.client.Token(ctx, apiScope)
			if tt.lost {
				if !errors.Is(err, tokencache.ErrInvalidGrant) {
					t.Errorf("got %v, want ErrInvalidGrant", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("the next call: %v", err)
			}
			if status, _ := f.me(t, tok); status != http.StatusOK {
				t.Errorf("the API answered %d", status)
			}
			if n := f.idp.Stats().RefreshReused; n != 0 {
				t.Errorf("%d refresh tokens were used twice", n)
			}
		})
	}
}

// TestKeysDownAtRefresh: without keys the ID token cannot be verified, and the
// rotated refresh token is kept for when they are back.
func TestKeysDownAtRefresh(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	f.expire(t, ctx)
	fresh := newClient(t, f.cache, &xoauth2.Options{ClientSecret: idp.DefaultClientSecret, HTTPClient: httpClient(t)})
	f.fault(t, idp.Fault{Endpoint: "keys", Status: 500})
	_, err := fresh.Token(ctx, apiScope)
	var down *tokencache.ServerError
	if !errors.As(err, &down) || errors.Is(err, xoauth2.ErrIDToken) {
		t.Errorf("got %v, want a ServerError about keys", err)
	}
	if _, err := fresh.Token(ctx, apiScope); err != nil {
		t.Error(err)
	}
}

func TestServerKeepsRefreshToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	for range 2 {
		f.expire(t, ctx)
		f.fault(t, idp.Fault{Endpoint: "token", Kind: "no_refresh_token"})
		if _, err := f.client.Token(ctx, apiScope); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFewerScopes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	f.fault(t, idp.Fault{Endpoint: "token", Kind: "fewer_scopes"})
	_, err := f.client.Token(ctx, "api://mail/Read", "api://mail/Send")
	var e *tokencache.InteractionRequiredError
	if !errors.As(err, &e) || e.Code != "insufficient_scope" {
		t.Errorf("got %v, want insufficient_scope", err)
	}
}

func TestRevokedGrant(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{entra: true})
	ctx := f.signIn(t, "anna")
	if _, err := f.idp.RevokeUser("anna"); err != nil {
		t.Fatal(err)
	}
	f.expire(t, ctx)
	_, err := f.client.Token(ctx)
	if !errors.Is(err, tokencache.ErrInvalidGrant) || !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("got %v, want ErrInvalidGrant and ErrNoTokens", err)
	}
	// A new sign-in mends it at once.
	if _, err := f.client.Token(f.signIn(t, "anna")); err != nil {
		t.Error(err)
	}
}

func TestInteractionRequired(t *testing.T) {
	t.Parallel()
	const claims = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	f := newFixture(t, config{entra: true})
	ctx := f.signIn(t, "anna")
	if err := f.idp.RequireInteraction("anna", claims); err != nil {
		t.Fatal(err)
	}
	_, err := f.client.Token(ctx, mailScope)
	var e *tokencache.InteractionRequiredError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an InteractionRequiredError", err)
	}
	if e.Code != "interaction_required" || e.Claims != claims || len(e.Scopes) != 1 || e.Scopes[0] != mailScope {
		t.Errorf("got %+v", e)
	}
	// The error says all that the sign-in needs.
	ticket := f.ticket(t, "anna", &xoauth2.SignInOptions{Scopes: e.Scopes, Claims: e.Claims})
	ctx = tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key()))
	if _, err := f.client.Token(ctx, mailScope); err != nil {
		t.Error(err)
	}
}

// TestServerDownWithinMargin: the margin is a quarter of a token's life.
func TestServerDownWithinMargin(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{idp: idp.Options{TokenLifetime: 6 * time.Second}})
	ctx := f.signIn(t, "anna")
	first, err := f.client.Token(ctx)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(first.Expires) - 1200*time.Millisecond)
	f.fault(t, idp.Fault{Endpoint: "token", Status: 503, Times: 100})
	tok, err := f.client.Token(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if tok.AccessToken != first.AccessToken || f.idp.Stats().TokenRequests.RefreshToken == 0 {
		t.Error("the server was not asked, or another token came")
	}
	time.Sleep(time.Until(first.Expires))
	var down *tokencache.ServerError
	if _, err := f.client.Token(ctx); !errors.As(err, &down) {
		t.Errorf("got %v for an expired token, want a ServerError", err)
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	_, err1 := f.client.Token(t.Context())
	_, err2 := f.client.TokenSource(t.Context()).Token()
	for _, err := range []error{err1, err2, f.client.SignOut(t.Context()), f.client.SignOutEverywhere(t.Context())} {
		if !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("got %v, want ErrNoTokens", err)
		}
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	f.expire(t, ctx)
	f.fault(t, idp.Fault{Endpoint: "token", Delay: 300 * time.Millisecond})
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := f.client.Token(short, apiScope); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
	// The refresh went on, and this call finds or joins it.
	if _, err := f.client.Token(ctx, apiScope); err != nil {
		t.Error(err)
	}
	if s := f.idp.Stats(); s.TokenRequests.RefreshToken != 1 {
		t.Errorf("%d refreshes, want 1", s.TokenRequests.RefreshToken)
	}
	cancelled, cancel2 := context.WithCancel(t.Context())
	cancel2()
	authURL, s := f.begin(t, nil)
	_, err := f.client.CompleteSignIn(cancelled, s, browse(t, authURL, "anna"))
	var down *tokencache.ServerError
	if !errors.Is(err, context.Canceled) || errors.As(err, &down) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestTokenSource(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	source := f.client.TokenSource(ctx, apiScope)
	first, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	if !first.Valid() || first.TokenType != "Bearer" || first.RefreshToken != "" || first.Expiry.IsZero() {
		t.Errorf("valid %v, type %s, expiry %v, or a refresh token", first.Valid(), first.TokenType, first.Expiry)
	}
	f.expire(t, ctx)
	second, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	if first.AccessToken == second.AccessToken {
		t.Error("the source kept its token")
	}
}

func TestTenant(t *testing.T) {
	t.Parallel()
	entra := newFixture(t, config{entra: true, idp: idp.Options{Tenant: "contoso.example"}})
	plain := newFixture(t, config{})
	ctx := entra.signIn(t, "anna")
	req := tokencache.Request{Scopes: []string{apiScope}, Tenant: "CONTOSO.example"} // the server's other name for it
	for range 2 {                                                                    // the second time it is cached
		tok, err := entra.client.Acquire(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		if status, _ := entra.me(t, tok); status != http.StatusOK {
			t.Errorf("the API answered %d", status)
		}
	}
	if n := entra.idp.Stats().TokenRequests.RefreshToken; n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	req.Tenant = "another.example"
	var refused *xoauth2.ProtocolError
	if _, err := entra.client.Acquire(ctx, req); !errors.As(err, &refused) || refused.Code != "invalid_tenant" {
		t.Errorf("got %v, want invalid_tenant", err)
	}
	for _, tenant := range []string{"../admin", "a/b", "a?b", ".", "%2e"} {
		req.Tenant = tenant
		if _, err := entra.client.Acquire(ctx, req); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("tenant %q: got %v, want ErrUnsupported", tenant, err)
		}
	}
	req.Tenant = "another.example"
	if _, err := plain.client.Acquire(plain.signIn(t, "anna"), req); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}

type verifier struct{ account string }

func (v verifier) Verify(context.Context, string) (tokencache.AssertionClaims, error) {
	return tokencache.AssertionClaims{Account: v.account, Expires: time.Now().Add(time.Hour)}, nil
}

// TestAssertionPartition: a partition without a refresh token of its own must
// not end up with the application's tokens.
func TestAssertionPartition(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	a, err := tokencache.VerifyAssertion(t.Context(), verifier{"anna"}, "marker-incoming-token")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []tokencache.Key{tokencache.AssertionKey(a), tokencache.ApplicationKey("", apiScope)} {
		ctx := tokencache.NewContext(t.Context(), f.cache.Partition(key))
		_, err := f.client.Token(ctx, apiScope)
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v: got %v, want ErrUnsupported", key, err)
		}
		clean(t, err, "marker")
	}
	if got := fmt.Sprintf("%+v", f.idp.Stats().TokenRequests); got != fmt.Sprintf("%+v", idp.TokenRequests{}) {
		t.Errorf("the server was asked: %s", got)
	}
}
