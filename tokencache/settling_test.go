package tokencache_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// deaf hears of no change but those of hears, and that it may have missed some when
// it is told so. Its leases can be given back in vain.
type deaf struct {
	tokencache.Provider
	hears  tokencache.Watcher // until it ends; nil: nothing
	notify atomic.Pointer[func(tokencache.Change)]
	lose   atomic.Bool
}

func (d *deaf) Watch(ctx context.Context, notify func(tokencache.Change)) error {
	d.notify.Store(&notify)
	if d.hears != nil {
		_ = d.hears.Watch(ctx, notify)
	}
	<-ctx.Done()
	return ctx.Err()
}

// reconnect is what a watcher tells after it has lost its connection.
func (d *deaf) reconnect() { (*d.notify.Load())(tokencache.Change{Missed: true}) }

func (d *deaf) Acquire(ctx context.Context, n tokencache.Name, ttl time.Duration) (tokencache.Lease, error) {
	lease, err := d.Provider.Capabilities().Leaser.Acquire(ctx, n, ttl)
	if err != nil {
		return nil, err
	}
	return forgotten{lease, d}, nil
}

// forgotten is a lease whose release the store has acknowledged and lost.
type forgotten struct {
	tokencache.Lease
	d *deaf
}

func (l forgotten) Release(ctx context.Context) error {
	if l.d.lose.Load() {
		return nil
	}
	return l.Lease.Release(ctx)
}

func (d *deaf) Capabilities() tokencache.Capabilities {
	c := d.Provider.Capabilities()
	c.Leaser, c.Watcher = d, d
	return c
}

// What this machine stores again after a failover may not be the newest: another
// machine has replaced it since, and nobody has heard of that. It must have had the
// time to say so before a refresh token is spent.
func TestFailoverAndNobodyHasHeard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, store, keys := newAuthority(), newFailover(t), newKeys(t)
		var machines [2]*tokencache.Cache
		var faults [2]*providertest.Faults
		var watchers [2]*deaf
		for i := range machines {
			faults[i] = providertest.NewFaults(store)
			watchers[i] = &deaf{Provider: faults[i]}
			if i == 1 {
				watchers[i].hears = store // what it has replaced was the successor of what comes back
			}
			machines[i] = newCache(t, watchers[i], &tokencache.Options{Keys: keys, L1MaxAge: time.Nanosecond})
		}
		ticket := mustSignIn(t, machines[0], a, "read")
		store.replicate()
		mustToken(t, machines[0].Partition(ticket.Key()), a, "write")
		mustToken(t, machines[1].Partition(ticket.Key()), a, "third")
		synctest.Wait()
		store.fail()
		faults[0].Set(providertest.Slow(50 * time.Millisecond))
		faults[1].Set(providertest.Slow(70 * time.Millisecond)) // and is too late for the first attempt
		for _, w := range watchers {
			w.reconnect()
		}
		mustToken(t, machines[0].Partition(ticket.Key()), a, "fourth")
		a.wantRefreshes(t, 3)
	})
}

// Nobody is held back for long by a store that hardly answers.
func TestFailoverAndNothingSettles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		faults := providertest.NewFaults(newProvider(t))
		watcher := &deaf{Provider: faults}
		cache := newCache(t, watcher, nil)
		ticket := mustSignIn(t, cache, a, "read")
		faults.Set(providertest.Hang(), providertest.OpLoad)
		watcher.reconnect()
		time.Sleep(100 * time.Millisecond)
		faults.Clear()
		faults.Set(providertest.Slow(200 * time.Millisecond))
		began := time.Now()
		mustToken(t, cache.Partition(ticket.Key()), a, "write")
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// Nor by a watcher that loses its connection over and over.
func TestFailoverOverAndOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		faults := providertest.NewFaults(newProvider(t))
		watcher := &deaf{Provider: faults}
		cache := newCache(t, watcher, nil)
		ticket := mustSignIn(t, cache, a, "read")
		for i := range 40 {
			if _, err := cache.SignIn(t.Context(), a.signInAs(fmt.Sprint("user-", i), "read")); err != nil {
				t.Fatal(err)
			}
		}
		faults.Set(providertest.Slow(50 * time.Millisecond))
		ctx, stop := context.WithCancel(t.Context())
		var flapping sync.WaitGroup
		flapping.Go(func() {
			for ctx.Err() == nil {
				watcher.reconnect()
				time.Sleep(300 * time.Millisecond)
			}
		})
		time.Sleep(time.Second)
		began := time.Now()
		mustToken(t, cache.Partition(ticket.Key()), a, "write")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		stop()
		flapping.Wait()
	})
}

// A store that has failed over may hold leases that were given back. They are given
// back again, so that nobody waits until they run out.
func TestFailoverLosesReleases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, store := newAuthority(), newProvider(t)
		faults := providertest.NewFaults(store)
		watcher := &deaf{Provider: faults}
		cache, other := newCache(t, watcher, nil), newCache(t, store, nil)
		ticket := mustSignIn(t, cache, a, "read")
		watcher.lose.Store(true)
		mustToken(t, cache.Partition(ticket.Key()), a, "write")
		watcher.lose.Store(false)
		faults.Set(providertest.Down(), providertest.OpRelease) // for a moment longer
		watcher.reconnect()
		time.Sleep(time.Second)
		faults.Clear()
		time.Sleep(time.Second)
		began := time.Now()
		mustToken(t, other.Partition(ticket.Key()), a, "third")
		if waited := time.Since(began); waited > 100*time.Millisecond {
			t.Errorf("the other machine waited %v for a lease that was given back", waited)
		}
		time.Sleep(10 * time.Second) // it would have run out by now
		releases := faults.Calls(providertest.OpRelease)
		watcher.reconnect()
		time.Sleep(time.Second)
		if got := faults.Calls(providertest.OpRelease); got != releases {
			t.Errorf("%d leases were given back that have run out", got-releases)
		}
	})
}
