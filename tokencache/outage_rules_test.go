package tokencache_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// What is kept is nobody's request: whoever tries to store it in passing, and
// leaves or runs out of time meanwhile, takes nothing of it away.
func TestUnsavedTokensOutliveWhoeverTriesToStoreThem(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]func(context.Context, *unsavedNode) error{
		"a sign-out that ends": func(ctx context.Context, n *unsavedNode) error {
			return n.cache.Partition(n.ticket.Key()).SignOut(ctx, nil)
		},
		"a sign-in that ends": func(ctx context.Context, n *unsavedNode) error {
			_, err := n.cache.SignIn(ctx, n.a.signIn("read"))
			return err
		},
		"a caller who leaves": func(ctx context.Context, n *unsavedNode) error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			defer cancel()
			return n.cache.Partition(n.ticket.Key()).Expire(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newUnsaved(t)
				n.faults.Set(providertest.Hang())
				time.Sleep(300 * time.Millisecond)
				for range 5 {
					if err := try(t.Context(), n); err == nil {
						t.Fatal("the provider hangs, and nothing failed")
					}
				}
				n.faults.Clear()
				time.Sleep(time.Second)
				mustToken(t, newCache(t, n.faults, nil).Partition(n.ticket.Key()), n.a, "third")
				n.a.wantRefreshes(t, 2)
			})
		})
	}
}

// A copy of an earlier sign-in says nothing about a session of a later one, which
// another machine has made.
func TestCopiesOfAnEarlierSignIn(t *testing.T) {
	t.Parallel()
	noWatcher := func(c *tokencache.Capabilities) { c.Watcher = nil }
	again := func(t *testing.T, store tokencache.Provider, a *authority, first tokencache.Ticket) tokencache.Ticket {
		t.Helper()
		other := newCache(t, store, nil)
		if err := other.Partition(first.Key()).SignOut(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		return mustSignIn(t, other, a, "read")
	}
	t.Run("in L1", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store, a := newProvider(t), newAuthority()
			cache := newCache(t, &faulty{Provider: store, hide: noWatcher}, nil)
			first := mustSignIn(t, cache, a, "read")
			second := again(t, store, a, first)
			mustToken(t, cache.Partition(second.Key()), nil, "read")
			_, err := cache.Partition(first.Key()).Token(t.Context(), request("read"), nil)
			wantError(t, err, tokencache.ErrNoTokens)
		})
	})
	t.Run("aged", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store, a := newProvider(t), newAuthority()
			faults := providertest.NewFaults(store)
			cache := newCache(t, &faulty{Provider: faults, hide: noWatcher}, nil)
			first := mustSignIn(t, cache, a, "read")
			second := again(t, store, a, first)
			faults.Set(providertest.Down())
			_, err := cache.Partition(second.Key()).Token(t.Context(), request("read"), nil)
			if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNoTokens) {
				t.Errorf("got %v, want ErrUnavailable alone", err)
			}
		})
	})
	t.Run("kept", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store, a := newProvider(t), newAuthority()
			faults := providertest.NewFaults(store)
			cache := newCache(t, faults, nil)
			first := mustSignIn(t, cache, a, "read")
			mustToken(t, cache.Partition(first.Key()), downAfterRefresh(a, faults), "write")
			second := again(t, store, a, first)
			_, err := cache.Partition(second.Key()).Token(t.Context(), request("read"), a)
			if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNoTokens) {
				t.Errorf("got %v, want ErrUnavailable alone", err)
			}
			faults.Clear()
			time.Sleep(time.Second)
			mustToken(t, cache.Partition(second.Key()), nil, "read")
		})
	})
}

// An error that the contract does not name for a call means that the backend
// could not answer, whatever it means for other calls.
func TestErrorsOfOtherCallsAreOutages(t *testing.T) {
	t.Parallel()
	for _, answer := range []error{tokencache.ErrBusy, tokencache.ErrNotFound} {
		t.Run(answer.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
				cache := newCache(t, faults, nil)
				p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
				faults.Set(providertest.First(3, func(context.Context, *providertest.Call) error { return answer }), providertest.OpSave)
				mustToken(t, p, a, "write")
				time.Sleep(time.Second)
				mustToken(t, newCache(t, faults, nil).Partition(p.Key()), a, "third")
				a.wantRefreshes(t, 2)
			})
		})
	}
	t.Run("load", func(t *testing.T) {
		t.Parallel()
		provider := &faulty{Provider: newProvider(t)}
		cache := newCache(t, provider, nil)
		provider.set(func(context.Context, tokencache.Name) (tokencache.Record, error) {
			return tokencache.Record{}, tokencache.ErrRemoved
		}, nil)
		err := cache.Partition(tokencache.AccountKey(account)).Check(t.Context())
		if !errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	})
}

// The time of a flight may end in any of its steps; the caller's has not.
func TestFlightThatEndsWhileReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, nil)
		p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
		began := time.Now()
		faults.Set(func(ctx context.Context, c *providertest.Call) error {
			if time.Since(began) < 29*time.Second {
				return tokencache.ErrBusy
			}
			return c.Do(ctx)
		}, providertest.OpAcquire)
		faults.Set(providertest.Hang(), providertest.OpLoad)
		_, err := p.Token(t.Context(), request("write"), a)
		if errors.Is(err, tokencache.ErrUnavailable) || !errors.Is(err, tokencache.ErrBusy) {
			t.Errorf("got %v, want ErrBusy", err)
		}
	})
}

func TestUnsavedTokensOutliveACallerWhoHasLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for range 10 { // some are stored by the background before the caller tries
			n := newUnsaved(t)
			n.faults.Clear()
			time.Sleep(201 * time.Millisecond) // the breaker's rest
			_ = n.cache.Partition(n.ticket.Key()).Expire(gone)
			time.Sleep(time.Second)
			mustToken(t, newCache(t, n.faults, nil).Partition(n.ticket.Key()), n.a, "third")
			n.a.wantRefreshes(t, 2)
		}
	})
}

// Whoever signs out everywhere is signed out of what waits to be stored, too.
func TestSignOutEverywhereEndsUnsavedTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, nil)
		ticket := mustSignIn(t, cache, a, "read")
		key := tokencache.AssertionKey(mustVerify(t, account, "incoming"))
		for range 10 { // the background may come first
			faults.Set(providertest.Down())
			mustToken(t, cache.Partition(key), a, "new")
			faults.Clear()
			if err := cache.Partition(ticket.Key()).SignOutEverywhere(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			_, err := cache.Partition(key).Token(t.Context(), request("new"), nil)
			wantError(t, err, tokencache.ErrNoTokens)
			time.Sleep(6 * time.Minute)
			ticket = mustSignIn(t, cache, a, "read")
		}
	})
}

// What has become too old to be stored takes nothing younger with it.
func TestUnsavedTokensOfDifferentAges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		p := newCache(t, faults, nil).Partition(tokencache.ApplicationKey("", "api://tasks"))
		faults.Set(providertest.Down())
		mustToken(t, p, a, "one")
		time.Sleep(4 * time.Minute)
		second := mustToken(t, p, a, "two")
		time.Sleep(2 * time.Minute)
		faults.Clear()
		time.Sleep(time.Second)
		other := newCache(t, faults, nil).Partition(p.Key())
		if mustToken(t, other, nil, "two").AccessToken != second.AccessToken {
			t.Error("another token was stored")
		}
	})
}

// A partition for which the server is asked again and again during an outage
// does not grow without bound.
func TestUnsavedChangesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, &tokencache.Options{Events: events.add})
		p := cache.Partition(tokencache.ApplicationKey("", "api://tasks"))
		faults.Set(providertest.Down())
		refused := tokencache.Secret("")
		for range 300 {
			tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"one"}, Refused: refused}, a)
			if err != nil {
				t.Fatal(err)
			}
			refused = tok.AccessToken
		}
		events.wantAmong(t, "unsaved kept", "unsaved dropped")
		faults.Clear()
	})
}

// A panic in what is plugged in has no caller in background work, and does not
// end the program.
func TestPanicsInTheBackground(t *testing.T) {
	t.Parallel()
	bug := func(context.Context, *providertest.Call) error { panic("a bug") }
	start := func(t *testing.T) *unsavedNode {
		t.Helper()
		n := &unsavedNode{a: newAuthority(), faults: providertest.NewFaults(newProvider(t))}
		n.a.lifetime = 1000 * time.Hour
		n.cache = newCache(t, n.faults, noCopies(tokencache.Options{Events: n.events.add}))
		n.ticket = mustSignIn(t, n.cache, n.a, "read")
		return n
	}
	t.Run("touch", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := start(t)
			n.faults.Set(bug, providertest.OpTouch)
			time.Sleep(5 * day)
			mustToken(t, n.cache.Partition(n.ticket.Key()), nil, "read")
			synctest.Wait()
			n.events.wantAmong(t, "upkeep touched")
		})
	})
	t.Run("renew", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := start(t)
			n.faults.Set(bug, providertest.OpRenew)
			n.a.before = func(context.Context) error { time.Sleep(5 * time.Second); return nil }
			mustToken(t, n.cache.Partition(n.ticket.Key()), n.a, "write")
			n.events.wantAmong(t, "lease acquired", "lease failed")
		})
	})
	t.Run("watch", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := start(t)
			n.faults.Set(bug, providertest.OpWatch)
			time.Sleep(5 * time.Second)
			n.faults.Clear()
			time.Sleep(5 * time.Second)
			n.events.wantAmong(t, "invalidation missed", "invalidation missed")
		})
	})
	t.Run("store", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := newUnsaved(t)
			n.faults.Set(bug)
			time.Sleep(5 * time.Second)
			n.faults.Clear()
			time.Sleep(time.Second)
			mustToken(t, newCache(t, n.faults, nil).Partition(n.ticket.Key()), n.a, "third")
			n.a.wantRefreshes(t, 2)
		})
	})
}

// Whatever a key service says when it cannot seal, it says nothing about the
// user, and costs nobody the tokens.
func TestUnsavedTokensOfAKeyServiceThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, keys := newAuthority(), newKeys(t)
		aead := &refusingAEAD{AEAD: keys.Seal}
		keys.Seal = aead
		store := newProvider(t)
		p := newCache(t, store, &tokencache.Options{Keys: keys}).Partition(tokencache.AccountKey(account))
		mustSignIn(t, newCache(t, store, &tokencache.Options{Keys: keys}), a, "read")
		aead.down.Store(true)
		mustToken(t, p, a, "write")
		aead.down.Store(false)
		time.Sleep(time.Second)
		mustToken(t, newCache(t, store, &tokencache.Options{Keys: keys}).Partition(p.Key()), a, "third")
		a.wantRefreshes(t, 2)
	})
}

// refusingAEAD seals nothing while down is set.
type refusingAEAD struct {
	tokencache.AEAD
	down atomic.Bool
}

func (r *refusingAEAD) Encrypt(plain, ad []byte) ([]byte, error) {
	if r.down.Load() {
		return nil, errRefused
	}
	return r.AEAD.Encrypt(plain, ad)
}
