package tokencache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestSignInRefuses(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	failed := errors.New("the exchange failed")
	for name, tt := range map[string]struct {
		edit func(*tokencache.Grant)
		err  error
		want string
	}{
		"exchange":        {err: failed, want: "the exchange failed"},
		"no account":      {edit: func(g *tokencache.Grant) { g.Account.ID = "" }, want: "no account"},
		"no access token": {edit: func(g *tokencache.Grant) { g.AccessToken = "" }, want: "no access token"},
	} {
		_, err := cache.SignIn(t.Context(), func(ctx context.Context) (tokencache.Grant, error) {
			g, _ := a.signIn("read")(ctx)
			if tt.edit != nil {
				tt.edit(&g)
			}
			return g, tt.err
		})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	wantError(t, cache.Partition(tokencache.AccountKey(account)).Check(t.Context()), tokencache.ErrNoTokens)
}

// The browser leaves while the code is being exchanged: what the server has
// issued is stored all the same.
func TestSignInOutlivesItsRequest(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	ctx, leave := context.WithCancel(t.Context())
	ticket, err := cache.SignIn(ctx, func(context.Context) (tokencache.Grant, error) {
		leave()
		return a.signIn("read")(context.Background())
	})
	if err != nil {
		t.Fatal(err)
	}
	mustToken(t, cache.Partition(ticket.Key()), nil, "read")
}

// One failed load must not throw away what the server has issued.
func TestSignInTriesTheLoadAgain(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
	cache := newCache(t, provider, nil)
	provider.set(refuseFirstLoad(provider.Provider), nil)
	mustToken(t, cache.Partition(mustSignIn(t, cache, a, "read").Key()), nil, "read")
}

// A sign-in has no request from which the scopes could be known.
func TestSignInWithoutScopesStoresNone(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	ticket, err := cache.SignIn(t.Context(), func(ctx context.Context) (tokencache.Grant, error) {
		g, err := a.signIn("read")(ctx)
		g.Scopes = nil
		return g, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if tok := mustToken(t, cache.Partition(ticket.Key()), nil); len(tok.Scopes) != 0 {
		t.Errorf("stored with the scopes %q", tok.Scopes)
	}
	mustToken(t, cache.Partition(ticket.Key()), a, "read")
	a.wantRefreshes(t, 1)
}

// A sign-out is compared by the clocks of two machines: signing in works again
// once this one has caught up, and not before.
func TestSignInAfterASignOutByAClockAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
		const ahead = 2 * time.Second
		provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
			r.Version = tokencache.Ahead(r.Version, ahead)
			return provider.Provider.Save(ctx, n, r, c)
		})
		if err := newCache(t, provider, nil).Partition(tokencache.AccountKey(account)).SignOut(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		signedOut := time.Now()
		cache := newCache(t, provider.Provider, nil)
		_, err := cache.SignIn(t.Context(), a.signIn("read"))
		wantError(t, err, tokencache.ErrRemoved)
		time.Sleep(time.Until(signedOut.Add(ahead + time.Nanosecond)))
		mustSignIn(t, cache, a, "read")
	})
}
