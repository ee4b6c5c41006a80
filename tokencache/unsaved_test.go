package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// downAfterRefresh is a server after whose answer the provider goes down.
func downAfterRefresh(a *authority, faults *providertest.Faults) serverFunc {
	return func(ctx context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
		g, err := a.Refresh(ctx, rt, req)
		faults.Set(providertest.Down())
		return g, err
	}
}

// unsavedNode is a user whose new tokens could not be stored.
type unsavedNode struct {
	a      *authority
	faults *providertest.Faults
	events log
	cache  *tokencache.Cache
	ticket tokencache.Ticket
	token  tokencache.Token // the new one
}

func newUnsaved(t *testing.T) *unsavedNode {
	t.Helper()
	n := &unsavedNode{a: newAuthority(), faults: providertest.NewFaults(newProvider(t))}
	n.cache = newCache(t, n.faults, &tokencache.Options{Events: n.events.add})
	n.ticket = mustSignIn(t, n.cache, n.a, "read")
	began := time.Now()
	n.token = mustToken(t, n.cache.Partition(n.ticket.Key()), downAfterRefresh(n.a, n.faults), "write")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the caller waited %v for a save that does not come", took)
	}
	n.events.wantAmong(t, "refresh", "save", "unsaved kept", "degraded unsaved")
	return n
}

func TestUnsavedTokensAreKeptAndStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newUnsaved(t)
		for range 60 { // for longer than a copy in L1 lives
			p := n.cache.Partition(n.ticket.Key())
			if tok := mustToken(t, p, n.a, "write"); tok.AccessToken != n.token.AccessToken || tok.Source != tokencache.SourceL1 {
				t.Fatalf("a token from %v, want the kept one", tok.Source)
			}
			_, err := p.Token(t.Context(), request("third"), n.a)
			wantError(t, err, tokencache.ErrUnavailable)
			time.Sleep(time.Second)
		}
		n.a.wantRefreshes(t, 1) // what is stored has been spent
		n.faults.Clear()
		time.Sleep(time.Second)
		n.events.wantAmong(t, "outage over", "save", "unsaved saved")
		other := newCache(t, n.faults, nil)
		if tok := mustToken(t, other.Partition(n.ticket.Key()), nil, "write"); tok.AccessToken != n.token.AccessToken {
			t.Error("another token was stored")
		}
		mustToken(t, other.Partition(n.ticket.Key()), n.a, "third")
		mustToken(t, n.cache.Partition(n.ticket.Key()), n.a, "fourth")
		n.a.wantRefreshes(t, 3)
	})
}

// During a short outage the machine keeps the lease, so that nobody else spends
// what is stored before it is replaced.
func TestUnsavedTokensAndOtherMachines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newUnsaved(t)
		other := newCache(t, n.faults, nil)
		time.Sleep(2 * time.Second)
		n.faults.Clear()
		mustToken(t, other.Partition(n.ticket.Key()), n.a, "third") // at the very moment
		mustToken(t, n.cache.Partition(n.ticket.Key()), n.a, "write")
		n.a.wantRefreshes(t, 2)
	})
}

// A request that comes before the next attempt stores them itself.
func TestUnsavedTokensAreStoredByTheNextRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newUnsaved(t)
		n.faults.Clear()
		time.Sleep(201 * time.Millisecond) // the breaker's rest
		mustToken(t, n.cache.Partition(n.ticket.Key()), n.a, "third")
		n.a.wantRefreshes(t, 2)
	})
}

func TestUnsavedTokensOfSomebodyWhoSignsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newUnsaved(t)
		p := n.cache.Partition(n.ticket.Key())
		wantError(t, p.SignOut(t.Context(), n.a), tokencache.ErrUnavailable)
		n.faults.Clear()
		if err := p.SignOut(t.Context(), n.a); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		wantError(t, p.Check(t.Context()), tokencache.ErrNoTokens)
		wantError(t, newCache(t, n.faults, nil).Partition(n.ticket.Key()).Check(t.Context()), tokencache.ErrRemoved)
		if _, err := n.a.rotate(n.lastRefreshToken(), nil); err == nil {
			t.Error("the refresh token was not revoked")
		}
	})
}

// lastRefreshToken is the one that was issued last.
func (n *unsavedNode) lastRefreshToken() tokencache.Secret {
	n.a.mu.Lock()
	defer n.a.mu.Unlock()
	return tokencache.Secret(fmt.Sprintf("marker-refresh-%d", n.a.serial))
}

// Somebody signs out on another machine, which the outage does not concern, and
// what was kept comes when even the tombstone has gone.
func TestUnsavedTokensDoNotResurrect(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]time.Duration{"at once": 0, "after the tombstone's life": 6 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newProvider(t)
				n := &unsavedNode{a: newAuthority(), faults: providertest.NewFaults(store)}
				n.cache = newCache(t, n.faults, &tokencache.Options{Events: n.events.add})
				n.ticket = mustSignIn(t, n.cache, n.a, "read")
				mustToken(t, n.cache.Partition(n.ticket.Key()), downAfterRefresh(n.a, n.faults), "write")
				other := newCache(t, store, nil)
				if err := other.Partition(n.ticket.Key()).SignOut(t.Context(), n.a); err != nil {
					t.Fatal(err)
				}
				time.Sleep(wait)
				n.events.take()
				n.faults.Clear()
				time.Sleep(time.Second)
				n.events.wantAmong(t, "unsaved dropped")
				wantError(t, other.Partition(tokencache.AccountKey(account)).Check(t.Context()), tokencache.ErrNoTokens)
				wantError(t, n.cache.Partition(n.ticket.Key()).Check(t.Context()), tokencache.ErrNoTokens)
			})
		})
	}
}

func TestCloseWaitsForUnsavedTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newUnsaved(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wantError(t, n.cache.Close(ctx), context.DeadlineExceeded)
		n.faults.Clear()
		if err := n.cache.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustToken(t, newCache(t, n.faults, nil).Partition(n.ticket.Key()), nil, "write")
	})
}

// What is kept is bounded. Beyond that a token is still handed out, and the
// event says what becomes of it.
func TestUnsavedTokensAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const users, room = 50, 40
		var kept, dropped atomic.Int64
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, &tokencache.Options{Events: func(_ context.Context, e tokencache.Event) {
			switch {
			case e.Kind == tokencache.EventUnsaved && e.Detail == "kept":
				kept.Add(1)
			case e.Kind == tokencache.EventUnsaved && e.Detail == "dropped":
				dropped.Add(1)
			}
		}})
		tokencache.LimitUnsaved(cache, room)
		answered := make(chan struct{})
		a.before = func(context.Context) error { <-answered; return nil }
		var wg sync.WaitGroup
		for i := range users {
			ticket, err := cache.SignIn(t.Context(), a.signInAs(fmt.Sprint("user-", i), "read"))
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { mustToken(t, cache.Partition(ticket.Key()), a, "write") })
		}
		synctest.Wait() // everybody is at the server
		faults.Set(providertest.Down())
		close(answered)
		wg.Wait()
		if kept.Load() != room || dropped.Load() != users-room {
			t.Errorf("%d are kept and %d dropped, want %d and %d", kept.Load(), dropped.Load(), room, users-room)
		}
		faults.Clear()
	})
}

// The application's tokens need no provider: it has credentials of its own.
func TestApplicationTokensWithoutTheProvider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, &tokencache.Options{Events: events.add})
		p := cache.Partition(tokencache.ApplicationKey("", "api://tasks"))
		faults.Set(providertest.Down())
		first := mustToken(t, p, a, "one")
		events.wantAmong(t, "lease failed", "refresh", "unsaved kept", "degraded alone")
		second := mustToken(t, p, a, "two")
		for range 40 {
			if mustToken(t, cache.Partition(p.Key()), a, "one").AccessToken != first.AccessToken ||
				mustToken(t, cache.Partition(p.Key()), a, "two").AccessToken != second.AccessToken {
				t.Fatal("the server was asked again")
			}
			time.Sleep(time.Second)
		}
		a.wantRefreshes(t, 2)
		_, err := p.Token(t.Context(), request("three"), nil)
		wantError(t, err, tokencache.ErrUnavailable)
		faults.Clear()
		time.Sleep(time.Second)
		other := newCache(t, faults, nil).Partition(p.Key())
		if mustToken(t, other, nil, "one").AccessToken != first.AccessToken || mustToken(t, other, nil, "two").AccessToken != second.AccessToken {
			t.Error("not all was stored")
		}
	})
}

// On-behalf-of tokens too, and what is stored already is not lost by it.
func TestAssertionTokensWithoutTheProvider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		key := tokencache.AssertionKey(mustVerify(t, account, "incoming"))
		stored := mustToken(t, newCache(t, faults, nil).Partition(key), a, "stored")
		faults.Set(providertest.Hang())
		cache := newCache(t, faults, nil)
		began := time.Now()
		mustToken(t, cache.Partition(key), a, "new")
		if took := time.Since(began); took > 20*time.Second { // three calls of an in-process provider that hangs
			t.Errorf("it took %v", took)
		}
		faults.Clear()
		time.Sleep(10 * time.Second)
		other := newCache(t, faults, nil).Partition(key)
		if mustToken(t, other, nil, "stored").AccessToken != stored.AccessToken {
			t.Error("what was stored before was overwritten")
		}
		mustToken(t, other, nil, "new")
		a.wantRefreshes(t, 2)
	})
}

// After a failed load a sign-in may create a partition, and replaces none that
// it has not seen.
func TestSignInAfterAFailedLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, nil)
		faults.Set(providertest.Down(), providertest.OpLoad)
		ticket := mustSignIn(t, cache, a, "read")
		_, err := cache.SignIn(t.Context(), a.signIn("write")) // it would have to see what it replaces
		wantError(t, err, tokencache.ErrUnavailable)
		faults.Clear()
		time.Sleep(time.Second)
		if tok := mustToken(t, cache.Partition(ticket.Key()), nil, "read"); tok.AccessToken == "" {
			t.Error("the first sign-in is gone")
		}
		_, err = cache.Partition(ticket.Key()).Token(t.Context(), request("write"), nil)
		if !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("the sign-in that failed was stored: %v", err)
		}
	})
}
