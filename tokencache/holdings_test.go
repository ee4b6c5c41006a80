package tokencache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// hourly is an incoming token of the account's that is valid for an hour.
type hourly struct{}

func (hourly) Verify(context.Context, string) (tokencache.AssertionClaims, error) {
	return tokencache.AssertionClaims{Account: account, Expires: time.Now().Add(time.Hour)}, nil
}

// A user sees where they are signed in, ends one of these, and nothing else.
func TestHoldings(t *testing.T) {
	t.Parallel()
	ctx, a := t.Context(), newAuthority()
	provider := newProvider(t)
	cache, other := newCache(t, provider, nil), newCache(t, provider, nil)
	own := mustSignIn(t, cache, a, "read")
	session, err := other.SignInSession(ctx, "marker-session", a.signIn("read"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := cache.SignIn(ctx, a.signInAs("somebody else", "read"))
	if err != nil {
		t.Fatal(err)
	}
	incoming, err := tokencache.VerifyAssertion(ctx, hourly{}, "marker-incoming")
	if err != nil {
		t.Fatal(err)
	}
	mustToken(t, other.Partition(tokencache.AssertionKey(incoming)), a.lenient(), "api")

	list, err := cache.Partition(session.Key()).Holdings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[tokencache.Kind]tokencache.Holding{}
	for _, h := range list {
		kinds[h.Kind] = h
		if h.Current != (h.Kind == tokencache.KindSession) || time.Since(h.Obtained) > time.Minute || !h.Expires.After(time.Now()) {
			t.Errorf("got %+v", h)
		}
		if strings.Contains(h.ID, account) || strings.Contains(h.ID, "marker") {
			t.Error("an ID tells of the account or the session")
		}
	}
	if len(list) != 3 || len(kinds) != 3 || list[0].Kind != tokencache.KindAccount {
		t.Fatalf("got %+v, want the account, a session and an assertion", list)
	}

	theirs, err := cache.Partition(stranger.Key()).Holdings(ctx)
	if err != nil || len(theirs) != 1 {
		t.Fatalf("somebody else has %d, %v", len(theirs), err)
	}
	p := cache.Partition(own.Key())
	if err := p.SignOutOf(ctx, theirs[0].ID, nil); err != nil {
		t.Errorf("an ID of somebody else's: %v", err)
	}
	for _, id := range []string{"", "x", "}:m", theirs[0].ID + "A", strings.Repeat("é", 43)} {
		if err := p.SignOutOf(ctx, id, nil); err == nil {
			t.Errorf("the ID %q was accepted", id)
		}
	}
	mustToken(t, other.Partition(stranger.Key()), nil, "read")
	if err := p.SignOutOf(ctx, kinds[tokencache.KindSession].ID, a); err != nil {
		t.Fatal(err)
	}
	wantError(t, other.Partition(session.Key()).Check(ctx), tokencache.ErrRemoved)
	mustToken(t, other.Partition(own.Key()), nil, "read")
	if list, err = p.Holdings(ctx); err != nil || len(list) != 2 {
		t.Errorf("%d are left, %v", len(list), err)
	}

	// Whoever has been signed out sees nothing, and ends nothing.
	gone := cache.Partition(session.Key())
	if _, err := gone.Holdings(ctx); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("got %v", err)
	}
	wantError(t, gone.SignOutOf(ctx, list[0].ID, nil), tokencache.ErrNoTokens)
	mustToken(t, other.Partition(own.Key()), nil, "read")
}

func TestHoldingsWithoutIndex(t *testing.T) {
	t.Parallel()
	a, provider := newAuthority(), &faulty{Provider: newProvider(t), hide: func(c *tokencache.Capabilities) { c.Owners = nil }}
	cache := newCache(t, provider, nil)
	ticket := mustSignIn(t, cache, a, "read")
	if _, err := cache.Partition(ticket.Key()).Holdings(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

// An ID of somebody else's changes nothing of theirs, not even what is remembered of
// it: after a failover they are signed in as before.
func TestSignOutOfSomebodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		stranger, err := l.cache.SignIn(t.Context(), l.a.signInAs("somebody else", "read"))
		if err != nil {
			t.Fatal(err)
		}
		l.store.replicate()
		l.token(t, l.cache, "write")
		list, err := l.cache.Partition(l.ticket.Key()).Holdings(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatalf("%d, %v", len(list), err)
		}
		saves := l.faults.Calls(providertest.OpSave)
		if err := l.cache.Partition(stranger.Key()).SignOutOf(t.Context(), list[0].ID, nil); err != nil {
			t.Errorf("got %v", err)
		}
		if got := l.faults.Calls(providertest.OpSave); got != saves {
			t.Error("something was saved")
		}
		l.store.failAndReconnect()
		l.token(t, l.cache, "write")
		l.a.wantRefreshes(t, 1)
	})
}

// Hooks that are the persistence cannot list anything, and are not asked to remove
// by an ID.
func TestSignOutOfWithHooks(t *testing.T) {
	t.Parallel()
	removed := false
	options := &tokencache.Options{
		BeforeAccess: func(context.Context, *tokencache.Access) error { return nil },
		AfterAccess: func(_ context.Context, a *tokencache.Access) error {
			removed = removed || a.HasStateChanged && !a.HasTokens
			return nil
		},
	}
	cache, err := tokencache.New(nil, namespace, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cache.Close(context.Background()) })
	id := strings.Repeat("A", 43)
	if err := cache.Partition(tokencache.AccountKey(account)).SignOutOf(t.Context(), id, nil); err == nil {
		t.Error("accepted")
	}
	if removed {
		t.Error("something was removed")
	}
}
