package tokencache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// A lease counts from the moment it was asked for, that of each attempt, and from
// the last renewal; a machine that has it no longer spends nothing.
func TestLeaseIsHeld(t *testing.T) {
	t.Parallel()
	lost := func(context.Context, *providertest.Call) error { return tokencache.ErrConflict }
	for name, tt := range map[string]struct {
		set      func(*providertest.Faults)
		acquired int
		err      error
	}{
		"while it is renewed": {func(f *providertest.Faults) {
			f.Set(providertest.Slow(12*time.Second), providertest.OpLoad)
		}, 1, nil},
		"from when it was asked for": {func(f *providertest.Faults) {
			f.Set(providertest.First(1, providertest.Slow(6*time.Second)), providertest.OpLoad)
			f.Set(providertest.Down(), providertest.OpRenew)
			f.Set(providertest.First(1, func(ctx context.Context, c *providertest.Call) error {
				defer time.Sleep(6 * time.Second) // the reply is late
				return c.Do(ctx)
			}), providertest.OpAcquire)
		}, 2, nil},
		"however long it was waited for": {func(f *providertest.Faults) {
			began := time.Now()
			f.Set(func(ctx context.Context, c *providertest.Call) error {
				if time.Since(began) < 12*time.Second {
					return tokencache.ErrBusy
				}
				return c.Do(ctx)
			}, providertest.OpAcquire)
		}, 1, nil},
		"not when it was lost": {func(f *providertest.Faults) {
			f.Set(providertest.First(1, lost), providertest.OpRenew)
			f.Set(providertest.First(1, providertest.Slow(4*time.Second)), providertest.OpLoad)
		}, 2, nil},
		"never": {func(f *providertest.Faults) {
			f.Set(lost, providertest.OpRenew)
			f.Set(providertest.Slow(4*time.Second), providertest.OpLoad)
		}, 3, tokencache.ErrBusy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var events log
				a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
				cache := newCache(t, faults, &tokencache.Options{ProviderTimeout: time.Second, Events: events.add})
				p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
				if err := p.Check(t.Context()); err != nil { // it is in L1
					t.Fatal(err)
				}
				tt.set(faults)
				_, err := p.Token(t.Context(), request("write"), a)
				wantError(t, err, tt.err)
				if got := events.count("lease acquired"); got != tt.acquired {
					t.Errorf("the lease was acquired %d times, want %d", got, tt.acquired)
				}
				if tt.err != nil {
					a.wantRefreshes(t, 0)
				}
				faults.Clear()
			})
		})
	}
}
