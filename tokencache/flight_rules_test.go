package tokencache_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

func noWatcher(c *tokencache.Capabilities) { c.Watcher = nil }

// signedInAnew has the user sign out and in again on another machine.
func signedInAnew(t *testing.T, store tokencache.Provider, a *authority, first tokencache.Ticket) tokencache.Ticket {
	t.Helper()
	other := newCache(t, store, nil)
	if err := other.Partition(first.Key()).SignOut(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Millisecond)
	return mustSignIn(t, other, a, "read")
}

// A session that has ended may still have a copy. What its refresh reads is the
// next sign-in's, and neither shown to it nor spent for it.
func TestRefreshOfAnEarlierSignIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, a := newProvider(t), newAuthority()
		cache := newCache(t, &faulty{Provider: store, hide: noWatcher}, nil)
		first := mustSignIn(t, cache, a, "read")
		second := signedInAnew(t, store, a, first)
		mustToken(t, newCache(t, store, nil).Partition(second.Key()), a, "write")
		for _, scope := range []string{"write", "third"} { // one is stored, and one is not
			_, err := cache.Partition(first.Key()).Token(t.Context(), request(scope), a)
			wantError(t, err, tokencache.ErrNoTokens)
		}
		a.wantRefreshes(t, 1)
	})
}

// A refresh that is at the server while the user signs out, and in again, adds
// nothing to the new sign-in.
func TestRefreshOvertakenByASignIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, a := newProvider(t), newAuthority()
		cache := newCache(t, store, nil)
		first := mustSignIn(t, cache, a, "read")
		var second tokencache.Ticket
		var once sync.Once
		a.before = func(context.Context) error {
			once.Do(func() { second = signedInAnew(t, store, a, first) })
			return nil
		}
		_, err := cache.Partition(first.Key()).Token(t.Context(), request("write"), a)
		wantError(t, err, tokencache.ErrRemoved)
		_, err = cache.Partition(second.Key()).Token(t.Context(), request("write"), nil)
		wantError(t, err, tokencache.ErrNoTokens)
		mustToken(t, cache.Partition(second.Key()), a, "third")
	})
}

// Refreshes of several partitions at the same moment have nothing in common, though
// they ask for the same.
func TestFlightsOfSeveralPartitions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		a.before = func(context.Context) error { time.Sleep(time.Second); return nil }
		cache := newCache(t, newProvider(t), nil)
		keys := []tokencache.Key{
			tokencache.ApplicationKey("", "api://one"), tokencache.ApplicationKey("", "api://two"),
			tokencache.AssertionKey(mustVerify(t, account, "one")), tokencache.AssertionKey(mustVerify(t, account, "two")),
		}
		got := make([]tokencache.Secret, len(keys))
		together(len(keys), func(i int) { got[i] = mustToken(t, cache.Partition(keys[i]), a, "read").AccessToken })
		seen := map[tokencache.Secret]bool{}
		for _, tok := range got {
			seen[tok] = true
		}
		if len(seen) != len(keys) {
			t.Errorf("%d partitions have %d tokens", len(keys), len(seen))
		}
	})
}

// An ended session and the one that followed ask at the same moment: the first
// must not be answered with what the second is given.
func TestFlightsOfSeveralSignIns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, a := newProvider(t), newAuthority()
		cache := newCache(t, &faulty{Provider: store, hide: noWatcher}, nil)
		first := mustSignIn(t, cache, a, "read")
		second := signedInAnew(t, store, a, first)
		a.before = func(context.Context) error { time.Sleep(time.Second); return nil }
		var wg sync.WaitGroup
		wg.Go(func() { mustToken(t, cache.Partition(second.Key()), a, "write") })
		time.Sleep(500 * time.Millisecond)
		_, err := cache.Partition(first.Key()).Token(t.Context(), request("write"), a)
		wantError(t, err, tokencache.ErrNoTokens)
		wg.Wait()
	})
}

// The answer to a refresh names another account: nothing of it is stored, not
// even the refresh token.
func TestRefreshAnsweredForAnotherAccount(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	var given []tokencache.Secret
	server := serverFunc(func(_ context.Context, rt tokencache.Secret, _ tokencache.Request) (tokencache.Grant, error) {
		given = append(given, rt)
		return tokencache.Grant{
			AccessToken: "another's", RefreshToken: "another's too", Account: tokencache.Account{ID: "another.account"},
		}, nil
	})
	for range 2 {
		var refused *tokencache.ServerError
		if _, err := p.Token(t.Context(), request("write"), server); !errors.As(err, &refused) {
			t.Errorf("got %v, want a ServerError", err)
		}
	}
	if len(given) != 2 || given[0] != given[1] {
		t.Error("the refresh token of another account was stored, and sent")
	}
}

// Whoever began a refresh leaves before the server is asked: whoever joined it is
// answered all the same.
func TestFlightOutlivesItsLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, nil)
		key := mustSignIn(t, cache, a, "read").Key()
		faults.Set(providertest.Slow(time.Second), providertest.OpAcquire)
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := cache.Partition(key).Token(ctx, request("write"), a)
			wantError(t, err, context.Canceled)
		})
		synctest.Wait()
		wg.Go(func() { mustToken(t, cache.Partition(key), a, "write") })
		synctest.Wait()
		leave()
		wg.Wait()
		a.wantRefreshes(t, 1)
	})
}

// A token that was valid when it was asked for, and has expired when the server
// has failed, is no answer; nor is any, where the user must act.
func TestTokensThatAreDue(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		slow   time.Duration
		answer error
		want   any // nil for a token
	}{
		"still valid":        {time.Second, &tokencache.ServerError{Err: errRefused}, nil},
		"expired meanwhile":  {2 * time.Minute, &tokencache.ServerError{Err: errRefused}, new(*tokencache.ServerError)},
		"the user is needed": {time.Second, &tokencache.InteractionRequiredError{Code: "mfa"}, new(*tokencache.InteractionRequiredError)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAuthority()
				cache := newCache(t, newProvider(t), nil)
				p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
				time.Sleep(a.lifetime - time.Minute)
				a.before = func(context.Context) error { time.Sleep(tt.slow); return tt.answer }
				tok, err := p.Token(t.Context(), request("read"), a)
				if ok := tok.AccessToken != ""; ok != (tt.want == nil) || ok != (err == nil) || !ok && !errors.As(err, tt.want) {
					t.Errorf("got a token: %v; error: %v, want a %T", ok, err, tt.want)
				}
			})
		})
	}
}

// Another machine refreshes the application's tokens, and takes too long: that is
// no reason to do without the lease.
func TestApplicationTokensOfABusyMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		p := newCache(t, faults, nil).Partition(tokencache.ApplicationKey("", "api://one"))
		faults.Set(func(context.Context, *providertest.Call) error { return tokencache.ErrBusy }, providertest.OpAcquire)
		_, err := p.Token(t.Context(), request("read"), a)
		wantError(t, err, tokencache.ErrBusy)
		a.wantRefreshes(t, 0)
	})
}
