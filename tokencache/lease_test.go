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

// A machine that has lost its lease before it could ask the server starts over:
// whoever took the lease has done the work.
func TestLeaseLostBeforeSpending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		a, store := newAuthority(), newProvider(t)
		faults := providertest.NewFaults(store)
		faults.Set(providertest.Hang(), providertest.OpWatch) // it hears of nothing either
		suspended := newCache(t, faults, &tokencache.Options{Events: events.add})
		other := newCache(t, store, nil)
		ticket := mustSignIn(t, other, a, "read")
		mustExpire(t, other.Partition(ticket.Key()))
		if err := suspended.Partition(ticket.Key()).Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		var once sync.Once
		faults.Set(func(ctx context.Context, c *providertest.Call) error {
			err := c.Do(ctx)
			once.Do(func() { time.Sleep(15 * time.Second) }) // for longer than a lease lasts
			return err
		}, providertest.OpLoad)
		faults.Set(providertest.Down(), providertest.OpRenew) // it cannot even tell
		done := make(chan tokencache.Token)
		go func() {
			tok, err := suspended.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
			if err != nil {
				t.Errorf("Token: %v", err)
			}
			done <- tok
		}()
		time.Sleep(11 * time.Second)
		want := mustToken(t, other.Partition(ticket.Key()), a, "read")
		if got := <-done; got.AccessToken != want.AccessToken {
			t.Error("the machines have different tokens")
		}
		a.wantRefreshes(t, 1)
		events.wantAmong(t, "lease acquired", "lease failed", "lease acquired")
	})
}

// The watchdog notices that the lease is gone, and says so; the request that is
// under way goes on, and its answer is stored.
func TestLeaseLostWhileSpending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		a := newAuthority()
		faults := providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, &tokencache.Options{Events: events.add})
		ticket := mustSignIn(t, cache, a, "read")
		faults.Set(func(context.Context, *providertest.Call) error { return tokencache.ErrConflict }, providertest.OpRenew)
		a.before = func(context.Context) error { time.Sleep(12 * time.Second); return nil }
		tok := mustToken(t, cache.Partition(ticket.Key()), a, "write")
		events.wantAmong(t, "lease acquired", "lease lost", "refresh", "save")
		if mustToken(t, newCache(t, faults, nil).Partition(ticket.Key()), nil, "write").AccessToken != tok.AccessToken {
			t.Error("the answer was not stored")
		}
	})
}

// A slow server costs nobody the lease.
func TestWatchdogRenewsTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		one, two := newCache(t, faults, nil), newCache(t, faults, nil)
		ticket := mustSignIn(t, one, a, "read")
		mustExpire(t, one.Partition(ticket.Key()))
		a.before = func(context.Context) error { time.Sleep(25 * time.Second); return nil }
		var wg sync.WaitGroup
		for _, c := range []*tokencache.Cache{one, two} {
			wg.Go(func() { mustToken(t, c.Partition(ticket.Key()), a, "read") })
		}
		wg.Wait()
		a.wantRefreshes(t, 1)
		if got := faults.Calls(providertest.OpRenew); got < 7 {
			t.Errorf("the lease was renewed %d times in 25 seconds", got)
		}
	})
}

// "Held by another", "could not tell" and "there are none" are three answers.
func TestLeaseAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		a, store := newAuthority(), newProvider(t)
		faults := providertest.NewFaults(store)
		cache := newCache(t, faults, &tokencache.Options{Events: events.add})
		ticket := mustSignIn(t, cache, a, "read")

		faults.Set(providertest.Down(), providertest.OpAcquire)
		_, err := cache.Partition(ticket.Key()).Token(t.Context(), request("write"), a)
		wantError(t, err, tokencache.ErrUnavailable)
		events.wantAmong(t, "lease failed")

		faults.Set(func(context.Context, *providertest.Call) error { return tokencache.ErrBusy }, providertest.OpAcquire)
		began := time.Now()
		_, err = cache.Partition(ticket.Key()).Token(t.Context(), request("write"), a)
		if !errors.Is(err, tokencache.ErrBusy) || errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("got %v, want ErrBusy alone", err)
		}
		if took := time.Since(began); took < 29*time.Second || took > 31*time.Second {
			t.Errorf("it waited for %v, want flightTimeout", took)
		}
		events.wantAmong(t, "lease busy")
		a.wantRefreshes(t, 0)

		faults.Clear()
		without := newCache(t, &faulty{Provider: store, hide: noLeases}, &tokencache.Options{Events: events.add})
		mustToken(t, without.Partition(ticket.Key()), a, "write")
		events.wantAmong(t, "lease none", "refresh")
	})
}
