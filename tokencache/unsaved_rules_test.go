package tokencache_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// count returns how often the event was told, and forgets all of them.
func (l *log) count(event string) (n int) {
	for _, e := range l.take() {
		if e == event {
			n++
		}
	}
	return n
}

// newKeptApplication is an application whose token could not be stored, once the
// lease was there.
func newKeptApplication(t *testing.T) *unsavedNode {
	t.Helper()
	n := &unsavedNode{a: newAuthority(), faults: providertest.NewFaults(newProvider(t))}
	n.cache = newCache(t, n.faults, &tokencache.Options{Events: n.events.add})
	n.token = mustToken(t, n.application(), downAfterRefresh(n.a, n.faults), "one")
	n.events.wantAmong(t, "lease acquired", "unsaved kept")
	return n
}

func (n *unsavedNode) application() *tokencache.Partition {
	return n.cache.Partition(tokencache.ApplicationKey("", "api://tasks"))
}

// As long as the tokens are not stored no other machine gets the lease, also if
// that takes longer than a lease lasts: what is stored has been spent.
func TestUnsavedTokensHoldTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, a := newProvider(t), newAuthority()
		faults := providertest.NewFaults(store)
		cache, other := newCache(t, faults, nil), newCache(t, store, nil)
		ticket := mustSignIn(t, cache, a, "read")
		faults.Set(providertest.Down(), providertest.OpSave)
		mustToken(t, cache.Partition(ticket.Key()), a, "write")
		began := time.Now()
		time.AfterFunc(25*time.Second, func() { faults.Clear() })
		mustToken(t, other.Partition(ticket.Key()), a, "third")
		a.wantRefreshes(t, 2)
		if took := time.Since(began); took < 25*time.Second || took > 26*time.Second {
			t.Errorf("the other machine had the lease after %v", took)
		}
	})
}

// Where nobody has leases, a refresh stores what is kept before it looks at what
// is stored.
func TestUnsavedTokensAreStoredBeforeARefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for range 5 { // the background may come first
			a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
			cache := newCache(t, &faulty{Provider: faults, hide: noLeases}, nil)
			p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
			mustToken(t, p, downAfterRefresh(a, faults), "write")
			faults.Clear()
			for {
				if _, err := p.Token(t.Context(), request("third"), a); err == nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			a.wantRefreshes(t, 2)
		}
	})
}

// Several outages are several times something to store.
func TestUnsavedTokensOfTwoOutages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newKeptApplication(t)
		for _, scope := range []string{"two", "three"} {
			n.faults.Clear()
			time.Sleep(time.Second)
			if got := n.events.count("unsaved saved"); got != 1 {
				t.Fatalf("stored %d times, want once", got)
			}
			mustToken(t, n.application(), downAfterRefresh(n.a, n.faults), scope)
		}
		n.faults.Clear()
		time.Sleep(time.Second)
		other := newCache(t, n.faults, nil).Partition(n.application().Key())
		for _, scope := range []string{"one", "two", "three"} {
			mustToken(t, other, nil, scope)
		}
	})
}

// A token that was refused is not served again from a copy, because the one that
// replaced it could not be stored.
func TestUnsavedTokensEndTheCopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		p := newCache(t, faults, nil).Partition(tokencache.ApplicationKey("", "api://tasks"))
		refused := mustToken(t, p, a, "read").AccessToken
		faults.Set(providertest.Down())
		tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}, Refused: refused}, a)
		if err != nil {
			t.Fatal(err)
		}
		if mustToken(t, p, a, "read").AccessToken != tok.AccessToken {
			t.Error("the refused token was served again")
		}
		faults.Clear()
	})
}

// What continues what is kept takes its place: it is stored once, and the lease of
// the first is given back then.
func TestUnsavedTokensThatContinueOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for range 10 { // how soon the background tries is left to chance
			n := newKeptApplication(t)
			mustToken(t, n.application(), n.a, "two")
			n.events.wantAmong(t, "unsaved kept")
			released := n.faults.Calls(providertest.OpRelease)
			n.faults.Set(providertest.Down(), providertest.OpAcquire)
			for _, op := range []providertest.Op{providertest.OpLoad, providertest.OpSave, providertest.OpRelease, providertest.OpRenew} {
				n.faults.Set(func(ctx context.Context, c *providertest.Call) error { return c.Do(ctx) }, op)
			}
			time.Sleep(time.Second)
			if got := n.events.count("unsaved saved"); got != 1 {
				t.Errorf("stored %d times, want once", got)
			}
			if got := n.faults.Calls(providertest.OpRelease) - released; got != 1 {
				t.Errorf("the lease was given back %d times, want once", got)
			}
			n.faults.Clear()
			other := newCache(t, n.faults, nil).Partition(n.application().Key())
			mustToken(t, other, nil, "one")
			mustToken(t, other, nil, "two")
		}
	})
}

// An answer that is too large to be kept does not take with it what is.
func TestUnsavedTokensAndAnAnswerTooLarge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newKeptApplication(t)
		n.a.answer = func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
			g.RefreshToken = tokencache.Secret(strings.Repeat("x", 2*tokencache.MaxTokensSize))
			return g, nil
		}
		mustToken(t, n.application(), n.a, "two")
		n.events.wantAmong(t, "unsaved dropped")
		n.faults.Clear()
		time.Sleep(time.Second)
		other := newCache(t, n.faults, nil).Partition(n.application().Key())
		if mustToken(t, other, nil, "one").AccessToken != n.token.AccessToken {
			t.Error("another token was stored")
		}
	})
}

// Whoever wants to store what is being stored waits for that, and no longer than
// for as long as it has time itself.
func TestUnsavedTokensThatAreBeingStored(t *testing.T) {
	t.Parallel()
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := newUnsaved(t)
			n.faults.Clear()
			n.faults.Set(providertest.Slow(500*time.Millisecond), providertest.OpSave)
			time.Sleep(500 * time.Millisecond) // it is at it
			mustExpire(t, n.cache.Partition(n.ticket.Key()))
			if got := n.events.count("unsaved saved"); got != 1 {
				t.Errorf("stored %d times, want once", got)
			}
		})
	})
	t.Run("too long", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := newUnsaved(t)
			n.faults.Set(providertest.Hang())
			time.Sleep(500 * time.Millisecond) // it is at it
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			began := time.Now()
			if err := n.cache.Partition(n.ticket.Key()).Expire(ctx); err == nil {
				t.Error("the provider hangs, and nothing failed")
			}
			if took := time.Since(began); took > 10*time.Millisecond {
				t.Errorf("it took %v, and its context had ended", took)
			}
			n.faults.Clear()
		})
	})
}

// What nobody can use any more is not kept.
func TestUnsavedTokensEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &unsavedNode{a: newAuthority(), faults: providertest.NewFaults(newProvider(t))}
		n.a.lifetime = 10 * time.Minute
		n.cache = newCache(t, n.faults, &tokencache.Options{Events: n.events.add})
		n.faults.Set(providertest.Down())
		mustToken(t, n.application(), n.a, "one")
		time.Sleep(9 * time.Minute)
		if slices.Contains(n.events.take(), "unsaved dropped") {
			t.Error("it was dropped before its end")
		}
		time.Sleep(2 * time.Minute)
		n.events.wantAmong(t, "unsaved dropped")
		if err := n.cache.Close(t.Context()); err != nil { // there is nothing to wait for
			t.Error(err)
		}
	})
}

// A provider that finds a conflict again and again does not store, and that costs
// nobody the tokens.
func TestUnsavedTokensOfEndlessConflicts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, &tokencache.Options{Events: events.add})
		p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
		conflict := func(context.Context, *providertest.Call) error { return tokencache.ErrConflict }
		faults.Set(providertest.First(25, conflict), providertest.OpSave) // ten make an attempt
		mustToken(t, p, a, "write")
		events.wantAmong(t, "conflict", "unsaved kept")
		time.Sleep(2 * time.Second)
		events.wantAmong(t, "conflict", "merge", "unsaved saved")
		mustToken(t, newCache(t, faults, nil).Partition(p.Key()), a, "third")
		a.wantRefreshes(t, 2)
	})
}

// During an outage those who wait for each other share what one of them obtained.
func TestTokensObtainedAloneAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		p := newCache(t, faults, nil).Partition(tokencache.ApplicationKey("", "api://tasks"))
		faults.Set(providertest.Down())
		a.before = func(context.Context) error { time.Sleep(100 * time.Millisecond); return nil }
		var wg sync.WaitGroup
		wg.Go(func() { mustToken(t, p, a, "one", "two") })
		time.Sleep(50 * time.Millisecond)
		wg.Go(func() { mustToken(t, p, a, "one") }) // another request, which the answer serves too
		wg.Wait()
		a.wantRefreshes(t, 1)
		faults.Clear()
	})
}
