package tokencache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// A machine that cannot give its lease back while the store is down does so as
// soon as it answers: the others need not wait until the lease has run out.
func TestLeaseIsGivenBackAfterAnOutage(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]time.Duration{
		"of one call": 0, "of a second": time.Second, "in which the store is asked now and then": 5 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, store := newAuthority(), newProvider(t)
				faults := providertest.NewFaults(store)
				cache, other := newCache(t, faults, nil), newCache(t, store, nil)
				ticket := mustSignIn(t, cache, a, "read")
				began := time.Now()
				faults.Set(func(ctx context.Context, c *providertest.Call) error {
					faults.Clear() // the next call is answered
					if down > 0 {
						faults.Set(providertest.Down())
					}
					return errRefused
				}, providertest.OpRelease)
				mustToken(t, cache.Partition(ticket.Key()), a, "write")
				for time.Since(began) < down { // requests find out
					_, _ = cache.Partition(ticket.Key()).Token(t.Context(), request("other"), a)
					time.Sleep(50 * time.Millisecond)
				}
				faults.Clear()
				time.Sleep(time.Second)
				began = time.Now()
				mustToken(t, other.Partition(ticket.Key()), a, "list")
				if waited := time.Since(began); waited > 100*time.Millisecond {
					t.Errorf("the other machine waited %v for the lease", waited)
				}
				a.wantRefreshes(t, 2)
			})
		})
	}
}

// Whoever closes the cache while the store is down does not wait for leases: they
// run out.
func TestCloseDoesNotWaitForLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache, err := tokencache.New(faults, namespace, nil)
		if err != nil {
			t.Fatal(err)
		}
		ticket := mustSignIn(t, cache, a, "read")
		faults.Set(providertest.Down(), providertest.OpRelease)
		mustToken(t, cache.Partition(ticket.Key()), a, "write")
		began := time.Now()
		if err := cache.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("Close waited %v", waited)
		}
	})
}
