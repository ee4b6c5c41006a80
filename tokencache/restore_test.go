package tokencache_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// lost is a user whose last tokens a failover loses.
type lost struct {
	a      *authority
	store  *failover
	faults *providertest.Faults
	events log
	keys   *tokencache.Keys
	cache  *tokencache.Cache
	ticket tokencache.Ticket
}

// newLost returns a user with a sign-in that the replica has.
func newLost(t *testing.T) *lost {
	t.Helper()
	l := &lost{a: newAuthority(), store: newFailover(t), keys: newKeys(t)}
	l.faults = providertest.NewFaults(l.store)
	l.cache = l.machine(t, &l.events)
	l.ticket = mustSignIn(t, l.cache, l.a, "read")
	l.store.replicate()
	return l
}

// machine returns one more machine over the store.
func (l *lost) machine(t *testing.T, events *log) *tokencache.Cache {
	t.Helper()
	return newCache(t, l.faults, &tokencache.Options{Keys: l.keys, Events: events.add})
}

func (l *lost) token(t *testing.T, c *tokencache.Cache, scope string) tokencache.Token {
	t.Helper()
	return mustToken(t, c.Partition(l.ticket.Key()), l.a, scope)
}

// The refresh token of the record that comes back has been spent: without the
// memory of what was saved, the next refresh signs the user out.
func TestFailoverLosesRefreshes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after int // refreshes that the replica has, and that it has not
		forgotten     bool
	}{
		"one":                  {after: 1},
		"three":                {after: 3},
		"the last of three":    {before: 2, after: 1},
		"the last two of four": {before: 2, after: 2},
		"one, forgotten":       {after: 1, forgotten: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLost(t)
				var last tokencache.Token
				for i := range c.before + c.after {
					if i == c.before {
						l.store.replicate()
					}
					last = l.token(t, l.cache, fmt.Sprint("scope-", i))
				}
				if c.forgotten {
					tokencache.LimitJournal(l.cache, 0)
				}
				l.store.fail()
				l.events.take()
				_, err := l.cache.Partition(l.ticket.Key()).Token(t.Context(), request("next"), l.a)
				if c.forgotten {
					// It has heard of its own save like any other machine, and waits for itself.
					wantError(t, err, tokencache.ErrUnavailable)
					time.Sleep(6 * time.Second)
					_, err = l.cache.Partition(l.ticket.Key()).Token(t.Context(), request("next"), l.a)
					wantError(t, err, tokencache.ErrInvalidGrant)
					if got := l.a.reused.Load(); got != 1 {
						t.Errorf("%d refresh tokens were used twice: the test looks at nothing", got)
					}
					return
				}
				if err != nil {
					t.Fatalf("Token: %v", err)
				}
				l.events.wantAmong(t, "lease acquired", "load", "restore", "load", "refresh", "save")
				l.a.wantRefreshes(t, int64(c.before+c.after+1))
				other := l.machine(t, &log{})
				if got := l.token(t, other, fmt.Sprint("scope-", c.before+c.after-1)); got.AccessToken != last.AccessToken {
					t.Error("the last token before the failover is not stored")
				}
			})
		})
	}
}

// The store can lose the same once more.
func TestFailoverTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		l.token(t, l.cache, "write")
		for i := range 3 {
			l.store.fail()
			l.store.replicate() // with what has gone back
			l.token(t, l.cache, fmt.Sprint("scope-", i))
		}
		l.a.wantRefreshes(t, 4)
	})
}

// After a failover every machine loses its connection. The one that wrote puts
// back what was lost, and the other finds it.
func TestFailoverAndAnotherMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		other := l.machine(t, &log{})
		want := l.token(t, l.cache, "write")
		l.store.failAndReconnect()
		l.events.wantAmong(t, "invalidation missed", "load", "restore", "load")
		if got := l.token(t, other, "write"); got.AccessToken != want.AccessToken || got.Source != tokencache.SourceProvider {
			t.Errorf("another token, from the %v", got.Source)
		}
		l.token(t, other, "third")
		l.a.wantRefreshes(t, 2)
	})
}

// Each machine has written what the other then replaced: together they get there.
func TestFailoverLosesWhatTwoMachinesWrote(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		other := l.machine(t, &log{})
		l.token(t, l.cache, "one")
		want := l.token(t, other, "two")
		l.store.fail()
		// The first restores its own, and waits for the other.
		_, err := l.cache.Partition(l.ticket.Key()).Token(t.Context(), request("one"), l.a)
		wantError(t, err, tokencache.ErrUnavailable)
		time.Sleep(2 * time.Second)
		if got := l.token(t, l.cache, "two"); got.AccessToken != want.AccessToken {
			t.Error("the later of the two is not stored")
		}
		l.token(t, l.cache, "three")
		l.a.wantRefreshes(t, 3)
	})
}

// What another machine has come with since is newer than what was lost.
func TestFailoverAndSomebodyMovesOn(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]bool{"before it is looked at": true, "while it is restored": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLost(t)
				l.token(t, l.cache, "write")
				other := newCache(t, l.store, &tokencache.Options{Keys: l.keys})
				l.store.fail()
				again := func() {
					if _, err := other.SignIn(t.Context(), l.a.signIn("again")); err != nil {
						t.Error(err)
					}
				}
				if lose {
					again()
				} else {
					l.faults.Set(providertest.First(1, func(ctx context.Context, c *providertest.Call) error {
						again()
						return c.Do(ctx)
					}), providertest.OpSave)
				}
				l.events.take()
				l.token(t, l.cache, "third")
				if got := l.events.count("restore"); got != 0 {
					t.Errorf("restored %d times over what is newer", got)
				}
				l.token(t, other, "again")
				l.a.wantRefreshes(t, 2)
			})
		})
	}
}

// While what was lost cannot be stored, nothing is spent, and who has a valid token
// is served.
func TestFailoverAndTheStoreStaysDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		want := l.token(t, l.cache, "write")
		l.faults.Set(providertest.Down(), providertest.OpSave)
		l.store.failAndReconnect()
		l.events.wantAmong(t, "invalidation missed", "load", "restore")
		for range 5 {
			if got := l.token(t, l.cache, "write"); got.AccessToken != want.AccessToken {
				t.Error("the older record was served")
			}
			_, err := l.cache.Partition(l.ticket.Key()).Token(t.Context(), request("third"), l.a)
			wantError(t, err, tokencache.ErrUnavailable)
			time.Sleep(time.Second)
		}
		l.a.wantRefreshes(t, 1)
		l.faults.Clear()
		time.Sleep(2 * time.Second) // the background tries again
		other := l.machine(t, &log{})
		l.token(t, other, "write")
		l.token(t, other, "third")
		l.a.wantRefreshes(t, 2)
	})
}

// A store that goes on answering with what was replaced is no store: nothing of it
// is used.
func TestStoreThatStaysBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		l.token(t, l.cache, "write")
		behind := l.store.replica.Provider
		l.faults.Set(func(ctx context.Context, c *providertest.Call) (err error) {
			*c.Record, err = behind.Load(ctx, c.Name)
			return err
		}, providertest.OpLoad)
		time.Sleep(time.Minute)
		_, err := l.cache.Partition(l.ticket.Key()).Token(t.Context(), request("third"), l.a)
		wantError(t, err, tokencache.ErrUnavailable)
		if calls := l.faults.Calls(); calls > 30 {
			t.Errorf("the store was called %d times", calls)
		}
		l.a.wantRefreshes(t, 1)
		l.faults.Clear()
	})
}

// A save whose reply is lost is remembered like any other.
func TestFailoverLosesASaveWithoutAReply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		l.faults.Set(providertest.First(1, providertest.LoseReplies()), providertest.OpSave)
		l.token(t, l.cache, "write")
		l.store.fail()
		l.token(t, l.cache, "third")
		l.a.wantRefreshes(t, 2)
	})
}

// A save that is under way when the store goes back is applied to what was lost.
func TestFailoverDuringARefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		want := l.token(t, l.cache, "write")
		l.a.before = func(context.Context) error { l.store.fail(); return nil }
		l.token(t, l.cache, "third")
		l.a.before = nil
		other := l.machine(t, &log{})
		if got := l.token(t, other, "write"); got.AccessToken != want.AccessToken {
			t.Error("the refresh before is not stored")
		}
		l.token(t, other, "fourth")
		l.a.wantRefreshes(t, 3)
	})
}

// Whoever signed out stays signed out, here and on other machines.
func TestFailoverLosesASignOut(t *testing.T) {
	t.Parallel()
	for name, signOut := range map[string]func(*tokencache.Partition, context.Context, tokencache.Server) error{
		"of one":     (*tokencache.Partition).SignOut,
		"everywhere": (*tokencache.Partition).SignOutEverywhere,
	} {
		for where, background := range map[string]bool{"at the next look": false, "in the background": true} {
			t.Run(name+" "+where, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					l := newLost(t)
					other := l.machine(t, &log{})
					caller := tokencache.AssertionKey(mustVerify(t, account, "incoming"))
					mustToken(t, l.cache.Partition(caller), l.a, "api")
					l.store.replicate()
					l.token(t, l.cache, "write")
					p := l.cache.Partition(l.ticket.Key())
					if err := signOut(p, t.Context(), nil); err != nil {
						t.Fatal(err)
					}
					keys := []tokencache.Key{l.ticket.Key()}
					if name == "everywhere" {
						keys = append(keys, caller)
					}
					l.events.take()
					l.store.fail()
					if background {
						time.Sleep(2 * time.Second)
						if got := l.events.count("restore removed"); got != len(keys) {
							t.Errorf("%d removals were restored, want %d", got, len(keys))
						}
					}
					for _, key := range keys {
						for _, c := range []*tokencache.Cache{l.cache, other} {
							_, err := c.Partition(key).Token(t.Context(), request("read"), l.a)
							wantError(t, err, tokencache.ErrRemoved)
						}
					}
					time.Sleep(time.Millisecond) // the clock of a bubble stands still by itself
					again := mustSignIn(t, l.cache, l.a, "read")
					mustToken(t, other.Partition(again.Key()), l.a, "write")
				})
			})
		}
	}
}

// A record of after a sign-out everywhere, which the mark from before it refuses:
// it is lost, but what was removed does not come back for it.
func TestFailoverLosesAMark(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		for i := range 2 {
			time.Sleep(10 * time.Minute)
			if i == 1 {
				l.store.replicate()
			}
			if err := l.cache.Partition(l.ticket.Key()).SignOutEverywhere(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			l.ticket = mustSignIn(t, l.cache, l.a, "read")
		}
		old := l.ticket
		l.store.failAndReconnect()
		for _, c := range []*tokencache.Cache{l.cache, l.machine(t, &log{})} {
			_, err := c.Partition(tokencache.AccountKey(account)).Token(t.Context(), request("read"), l.a)
			wantError(t, err, tokencache.ErrRemoved)
			_, err = c.Partition(old.Key()).Token(t.Context(), request("read"), l.a)
			wantError(t, err, tokencache.ErrNoTokens)
		}
		l.ticket = mustSignIn(t, l.cache, l.a, "read")
		l.token(t, l.cache, "write")
	})
}

// Where nothing is stored, nothing comes back: it was evicted, or somebody wanted
// it gone.
func TestFailoverIntoAnEmptyStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		time.Sleep(3 * time.Minute)
		l.token(t, l.cache, "write")
		l.store.replica = newSite(t)
		saves := l.faults.Calls(providertest.OpSave)
		l.store.failAndReconnect()
		wantError(t, l.cache.Partition(l.ticket.Key()).Check(t.Context()), tokencache.ErrNoTokens)
		if got := l.faults.Calls(providertest.OpSave) - saves; got != 0 {
			t.Errorf("%d saves, and there is nothing to save over", got)
		}
		l.events.wantAmong(t, "invalidation missed", "load")
	})
}

// Who has signed in at the last moment is not lost to a failover, whichever machine
// they ask next.
func TestFailoverLosesASignIn(t *testing.T) {
	t.Parallel()
	for name, wrote := range map[string]bool{"asked where it was written": true, "asked elsewhere": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLost(t)
				machine := l.machine(t, &log{})
				if wrote {
					machine = l.cache
				}
				time.Sleep(3 * time.Minute)
				l.store.replica = newSite(t)
				l.store.failAndReconnect() // into an empty store
				l.ticket = mustSignIn(t, l.cache, l.a, "read")
				l.token(t, l.cache, "write")
				synctest.Wait()
				l.store.fail()
				err := machine.Partition(l.ticket.Key()).Check(t.Context())
				if err != nil {
					wantError(t, err, tokencache.ErrUnavailable)
				}
				time.Sleep(2 * time.Second)
				l.token(t, machine, "third")
				l.a.wantRefreshes(t, 2)
			})
		})
	}
}

// What came into being and was removed is not brought back by who made it.
func TestFailoverLosesASignInAndASignOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		l.store.replica = newSite(t)
		other := newCache(t, l.store, &tokencache.Options{Keys: l.keys})
		if err := other.Partition(l.ticket.Key()).SignOut(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if err := other.Close(t.Context()); err != nil { // it cannot tell any more
			t.Fatal(err)
		}
		l.store.failAndReconnect()
		time.Sleep(6 * time.Second)
		wantError(t, l.cache.Partition(l.ticket.Key()).Check(t.Context()), tokencache.ErrNoTokens)
	})
}

// What is evicted, or removed to sign everybody out, stays away from a store that
// has not failed over.
func TestNewUserIsEvicted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		time.Sleep(time.Second)
		l.store.mu.Lock()
		l.store.primary.Provider = newProvider(t)
		l.store.mu.Unlock()
		machine := l.machine(t, &log{})
		wantError(t, machine.Partition(l.ticket.Key()).Check(t.Context()), tokencache.ErrNoTokens)
		time.Sleep(15 * time.Second) // beyond the copy in memory
		wantError(t, l.cache.Partition(l.ticket.Key()).Check(t.Context()), tokencache.ErrUnavailable)
		time.Sleep(6 * time.Second)
		wantError(t, l.cache.Partition(l.ticket.Key()).Check(t.Context()), tokencache.ErrNoTokens)
	})
}

// A partition that came back after an eviction is newer than what was there before.
func TestFailoverToBeforeAnEviction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		l.token(t, l.cache, "write")
		kept := l.store.replica
		l.store.replica = newSite(t)
		l.store.fail()
		l.ticket = mustSignIn(t, l.cache, l.a, "again")
		l.store.replica = kept
		l.store.fail()
		l.token(t, l.cache, "third")
		l.token(t, l.machine(t, &log{}), "again")
		l.a.wantRefreshes(t, 2)
	})
}

// A load that is overtaken by a save answers with what was replaced, and that is no
// failover.
func TestLoadOvertakenByASave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		time.Sleep(time.Minute) // what is in L1 has ended
		l.faults.Set(providertest.First(1, func(ctx context.Context, c *providertest.Call) error {
			err := c.Do(ctx)
			time.Sleep(time.Second) // the answer is on its way
			return err
		}), providertest.OpLoad)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := l.cache.Partition(l.ticket.Key()).Token(t.Context(), request("write"), nil); err != nil {
				t.Errorf("the token that was saved meanwhile was not found: %v", err)
			}
		})
		time.Sleep(time.Millisecond)
		saves := l.faults.Calls(providertest.OpSave)
		if _, err := l.cache.SignIn(t.Context(), l.a.signIn("write")); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if got := l.faults.Calls(providertest.OpSave) - saves; got != 1 {
			t.Errorf("%d saves, want that of the sign-in", got)
		}
	})
}

// A reconnection costs nothing if nothing was saved for a while, and else a load
// of each partition that was.
func TestReconnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const users = 30
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, nil)
		for i := range users {
			ticket, err := cache.SignIn(t.Context(), a.signInAs(fmt.Sprint("user-", i), "read"))
			if err != nil {
				t.Fatal(err)
			}
			mustToken(t, cache.Partition(ticket.Key()), a, "write")
		}
		var mu sync.Mutex
		var running, most int
		faults.Set(func(ctx context.Context, c *providertest.Call) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			running--
			mu.Unlock()
			return c.Do(ctx)
		}, providertest.OpLoad)
		reconnect := func() (loads, saves int) {
			loads, saves = faults.Calls(providertest.OpLoad), faults.Calls(providertest.OpSave)
			faults.Set(providertest.Down(), providertest.OpWatch)
			faults.Clear(providertest.OpWatch)
			time.Sleep(2 * time.Second)
			return faults.Calls(providertest.OpLoad) - loads, faults.Calls(providertest.OpSave) - saves
		}
		for range 2 {
			if loads, saves := reconnect(); loads != users || saves != 0 {
				t.Errorf("%d loads and %d saves, want %d and none", loads, saves, users)
			}
		}
		if most != 4 {
			t.Errorf("%d loads at once, want 4", most)
		}
		time.Sleep(2 * time.Minute)
		if loads, saves := reconnect(); loads != 0 || saves != 0 {
			t.Errorf("%d loads and %d saves although nothing was saved lately", loads, saves)
		}
		fresh := providertest.NewFaults(newProvider(t))
		newCache(t, fresh, nil)
		if got := fresh.Calls(providertest.OpLoad); got != 0 {
			t.Errorf("%d loads at the beginning", got)
		}
	})
}

// What is looked for in the background ends with the cache, whatever the store
// does, and by itself when it is too late.
func TestRestoringEnds(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]providertest.Fault{"down": providertest.Down(), "hangs": providertest.Hang()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLost(t)
				l.token(t, l.cache, "write")
				l.faults.Set(fault, providertest.OpLoad, providertest.OpSave)
				l.store.failAndReconnect()
				calls := l.faults.Calls(providertest.OpLoad)
				if calls == 0 {
					t.Fatal("nobody looked: the test looks at nothing")
				}
				began := time.Now()
				if err := l.cache.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 100*time.Millisecond {
					t.Errorf("Close took %v", took)
				}
				l.faults.Clear()
			})
		})
	}
	t.Run("by itself", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newLost(t)
			l.token(t, l.cache, "write")
			l.faults.Set(providertest.Down(), providertest.OpLoad, providertest.OpSave)
			l.store.failAndReconnect()
			time.Sleep(3 * time.Minute)
			calls := l.faults.Calls()
			time.Sleep(3 * time.Minute)
			if got := l.faults.Calls() - calls; got != 0 {
				t.Errorf("%d calls when it was too late", got)
			}
			l.faults.Clear()
		})
	})
}

// A provider that panics in the background ends neither the program nor the work.
func TestRestoringAndAPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		want := l.token(t, l.cache, "write")
		l.faults.Set(providertest.First(3, func(context.Context, *providertest.Call) error { panic("a bug") }), providertest.OpSave)
		l.store.failAndReconnect()
		time.Sleep(10 * time.Second)
		if got := l.token(t, l.machine(t, &log{}), "write"); got.AccessToken != want.AccessToken {
			t.Error("what was lost is not restored")
		}
	})
}

// Users work on a machine while the store fails over again and again: nobody is
// signed out, and no refresh token is used twice.
func TestFailoversUnderLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		var wg sync.WaitGroup
		began := time.Now()
		for i := range 5 {
			ticket, err := l.cache.SignIn(t.Context(), l.a.signInAs(fmt.Sprint("user-", i), "read"))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				wg.Go(func() {
					for time.Since(began) < 30*time.Second {
						mustToken(t, l.cache.Partition(ticket.Key()), l.a, fmt.Sprint("scope-", rand.N(1000)))
						time.Sleep(rand.N(2 * time.Second))
					}
				})
			}
		}
		for time.Since(began) < 30*time.Second {
			l.store.replicate()
			time.Sleep(rand.N(2 * time.Second)) // a few saves of each are lost
			l.store.failAndReconnect()
		}
		wg.Wait()
		if got := l.events.count("restore"); got < 10 {
			t.Errorf("%d restored: the test looks at little", got)
		}
		l.a.wantRefreshes(t, l.a.refreshes.Load())
	})
}
