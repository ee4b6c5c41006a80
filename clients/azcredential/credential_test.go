package azcredential_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/clients/azcredential"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

var (
	_ azcredential.Client    = (*xoauth2.Client)(nil)
	_ azcredential.AppClient = (*xoauth2.Client)(nil)
)

// Users with an SDK client each never see each other's token, and the authorization
// server is not asked for what is cached.
func TestUsersSideBySide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	users, own := []string{"anna", "ben", "carl"}, map[string]string{}
	requests := map[string]context.Context{}
	for _, u := range users {
		requests[u] = w.signIn(t, u)
		own[u] = w.token(t, requests[u])
	}
	before := w.asked()
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			user := users[i%len(users)]
			client := w.sdk(azcredential.New(requests[user], w.client))
			for range 3 {
				if status, err := client.do(t, requests[user], user); err != nil || status != 200 {
					t.Errorf("%d, %v", status, err)
				}
			}
		})
	}
	wg.Wait()
	for _, u := range users {
		seen := w.service.seen(u)
		if n := len(seen); n != 60 {
			t.Errorf("%d requests of one user, want 60", n)
		}
		if slices.ContainsFunc(seen, func(token string) bool { return token != own[u] }) {
			t.Error("a request came with another token than its user's")
		}
	}
	if own["anna"] == own["ben"] {
		t.Error("two users have one token: the test looks at nothing")
	}
	if w.asked() != before {
		t.Error("the authorization server was asked for what is cached")
	}
}

// Whose context the call has makes no difference: not to one who has no tokens, and not
// on behalf of a caller.
func TestBoundToOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anna, ben := w.signIn(t, "anna"), w.signIn(t, "ben")
	client := w.sdk(azcredential.New(anna, w.client))
	if _, err := client.do(t, ben, "bound"); err != nil {
		t.Error(err)
	}
	if !slices.Equal(w.service.seen("bound"), []string{w.token(t, anna)}) {
		t.Error("the credential gave out another token than that of its user")
	}
	_, err := w.sdk(azcredential.New(t.Context(), w.client)).do(t, ben, "nobody")
	if !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("a credential of nobody's, in a call of a user: %v", err)
	}
	if n := len(w.service.seen("nobody")); n != 0 {
		t.Errorf("%d requests of nobody's", n)
	}
}

func TestOnBehalfOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anna := w.signIn(t, "anna")
	tok, err := w.client.Token(anna, "api://app/Read")
	must(t, err)
	a, err := tokencache.VerifyAssertion(t.Context(), w.client.Verifier("api://app"), string(tok.AccessToken))
	must(t, err)
	incoming := tokencache.NewContext(tokencache.NewAssertionContext(t.Context(), a), w.cache.Partition(tokencache.AssertionKey(a)))
	for range 3 {
		_, err := w.sdk(azcredential.New(incoming, w.client)).do(t, t.Context(), "caller")
		must(t, err)
	}
	seen := slices.Compact(w.service.seen("caller"))
	if len(seen) != 1 || seen[0] == w.token(t, anna) || w.idp.Stats().TokenRequests.OnBehalfOf != 1 {
		t.Errorf("%d tokens on behalf of the caller, or the user's own", len(seen))
	}
}

func TestApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anna := w.signIn(t, "anna")
	client := w.sdk(azcredential.NewApp(w.client)) // shared
	for _, ctx := range []context.Context{anna, w.signIn(t, "ben"), t.Context()} {
		_, err := client.do(t, ctx, "app")
		must(t, err)
	}
	seen := slices.Compact(w.service.seen("app"))
	if len(seen) != 1 || seen[0] == w.token(t, anna) || w.idp.Stats().TokenRequests.ClientCredentials != 1 {
		t.Errorf("%d tokens of the application, or a user's", len(seen))
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got tokencache.Request
	expires := time.Now().Add(time.Hour)
	client := fake(func(_ context.Context, r tokencache.Request) (tokencache.Token, error) {
		got = r
		return tokencache.Token{AccessToken: "marker-token", Expires: expires}, nil
	})
	o := policy.TokenRequestOptions{Scopes: []string{vaultScope}, TenantID: "other", Claims: `{"a":1}`, EnableCAE: true}
	want := tokencache.Request{Scopes: []string{vaultScope}, Tenant: "other", Claims: `{"a":1}`, CAE: true}
	for _, credential := range []azcore.TokenCredential{
		azcredential.New(t.Context(), client), azcredential.NewApp(client),
	} {
		got = tokencache.Request{}
		tok, err := credential.GetToken(t.Context(), o)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if tok.Token != "marker-token" || !tok.ExpiresOn.Equal(expires) || !tok.RefreshOn.IsZero() {
			t.Error("another token than the client's")
		}
		got = tokencache.Request{}
		if _, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{}); err == nil || got.Scopes != nil {
			t.Errorf("a request without scopes: %v", err)
		}
	}
}

// The call's end ends the client's, and the credential ends with the request that it was
// made for.
func TestEnds(t *testing.T) {
	t.Parallel()
	user, end := context.WithCancel(t.Context())
	asked := 0
	credential := azcredential.New(user, fake(func(ctx context.Context, _ tokencache.Request) (tokencache.Token, error) {
		asked++
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		<-ctx.Done()
		return tokencache.Token{}, ctx.Err()
	}))
	o := policy.TokenRequestOptions{Scopes: []string{vaultScope}}
	call, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := credential.GetToken(call, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that took too long: %v", err)
	}
	call, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := credential.GetToken(call, o); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that was cancelled: %v", err)
	}
	end()
	if _, err := credential.GetToken(t.Context(), o); !errors.Is(err, context.Canceled) || asked != 2 {
		t.Errorf("after the request that it is for: %v, asked %d times", err, asked)
	}
}

// Deriving contexts from that of a call, as the cache does, starts no goroutine for each.
func TestNoGoroutines(t *testing.T) {
	const derived = 200
	user, end := context.WithCancel(t.Context())
	defer end()
	call, cancel := context.WithCancel(t.Context())
	defer cancel()
	credential := azcredential.New(user, fake(func(ctx context.Context, _ tokencache.Request) (tokencache.Token, error) {
		before := runtime.NumGoroutine()
		for range derived {
			_, cancel := context.WithCancel(ctx)
			defer cancel()
		}
		if n := runtime.NumGoroutine() - before; n > derived/2 {
			t.Errorf("%d goroutines for %d contexts", n, derived)
		}
		return tokencache.Token{AccessToken: "marker-token"}, nil
	}))
	_, err := credential.GetToken(call, policy.TokenRequestOptions{Scopes: []string{vaultScope}})
	must(t, err)
}
