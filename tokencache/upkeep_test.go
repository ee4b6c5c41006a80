package tokencache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

const day = 24 * time.Hour

// A partition that is in use does not end, though nothing in it changes, and is
// written to seldom.
func TestPartitionInUseStaysAlive(t *testing.T) {
	t.Parallel()
	for name, hide := range map[string]func(*tokencache.Capabilities){
		"touched": nil,
		"saved":   func(c *tokencache.Capabilities) { c.Toucher = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAuthority()
				a.lifetime = 3 * time.Hour // longer than anything is idle
				calls := providertest.NewFaults(newProvider(t))
				cache := newCache(t, &faulty{Provider: calls, hide: hide}, &tokencache.Options{IdleTimeout: 20 * time.Minute})
				ticket := mustSignIn(t, cache, a, "read")
				before := calls.Calls(providertest.OpTouch, providertest.OpSave)
				for range 2 * 90 {
					time.Sleep(30 * time.Second)
					mustToken(t, cache.Partition(ticket.Key()), a, "read")
					synctest.Wait()
				}
				a.wantRefreshes(t, 0)
				writes := calls.Calls(providertest.OpTouch, providertest.OpSave) - before
				if writes < 15 || writes > 45 { // once in a tenth of 20 minutes, and a twentieth more
					t.Errorf("90 minutes of use wrote %d times", writes)
				}
				time.Sleep(22 * time.Minute)
				_, err := cache.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
				wantError(t, err, tokencache.ErrNoTokens)
			})
		})
	}
}

// However much it is used, it ends with its absolute timeout.
func TestPartitionInUseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		a.lifetime = 1000 * time.Hour
		calls := providertest.NewFaults(newProvider(t))
		cache := newCache(t, calls, &tokencache.Options{IdleTimeout: 20 * time.Minute, AbsoluteTimeout: time.Hour})
		ticket := mustSignIn(t, cache, a, "read")
		for range 59 {
			mustToken(t, cache.Partition(ticket.Key()), a, "read")
			synctest.Wait()
			time.Sleep(time.Minute)
		}
		// Every other minute until the end is near, and then there is nothing to win.
		if got := calls.Calls(providertest.OpTouch); got < 10 || got > 25 {
			t.Errorf("it was touched %d times", got)
		}
		time.Sleep(time.Minute)
		_, err := cache.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
		wantError(t, err, tokencache.ErrNoTokens)
	})
}

// Partitions that were saved together do not vanish together.
func TestExpiriesAreSpread(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
	seen := map[int64]bool{}
	provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		left := time.Until(r.Expires)
		if left < 14*day-time.Minute || left > 14*day+14*day/20 {
			t.Errorf("a partition ends in %v, want 14 days and up to a twentieth more", left)
		}
		seen[r.Expires.Unix()/60] = true
		return provider.Provider.Save(ctx, n, r, c)
	})
	cache := newCache(t, provider, nil)
	for i := range 50 {
		if _, err := cache.SignIn(t.Context(), a.signInAs(string(rune('a'+i)), "read")); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) < 25 {
		t.Errorf("50 partitions end in %d different minutes", len(seen))
	}
}

// A record that an older key has sealed is sealed with the first key of the ring
// when it is next loaded, so that the older one can be dropped.
func TestLazyReseal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		a, store := newAuthority(), remote(newProvider(t))
		oldKey, newKey, names := random32(), random32(), random32()
		with := func(keys ...[]byte) *tokencache.Options {
			ring, err := tokencache.NewKeyRing(keys...)
			if err != nil {
				t.Fatal(err)
			}
			return &tokencache.Options{Keys: &tokencache.Keys{Names: names, Seal: ring}, Events: events.add}
		}
		ticket := mustSignIn(t, newCache(t, store, with(oldKey)), a, "read")
		rotated := newCache(t, store, with(newKey, oldKey))
		saves := store.saves.Load()
		events.take()
		for range 5 {
			mustToken(t, rotated.Partition(ticket.Key()), nil, "read")
			synctest.Wait()
			time.Sleep(time.Minute)
		}
		events.wantAmong(t, "load", "upkeep resealed", "load")
		if got := store.saves.Load() - saves; got != 1 {
			t.Errorf("it was saved %d times, want once", got)
		}
		mustToken(t, newCache(t, store, with(newKey)).Partition(ticket.Key()), nil, "read")
		_, err := newCache(t, store, with(oldKey)).Partition(ticket.Key()).Token(t.Context(), request("read"), nil)
		wantError(t, err, tokencache.ErrUnreadable)
	})
}

// A partition on behalf of somebody ends with the incoming token, and is not kept
// alive beyond that.
func TestAssertionPartitionEndsWithTheAssertion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, calls := newAuthority(), providertest.NewFaults(newProvider(t))
		a.lifetime = 24 * time.Hour
		cache := newCache(t, calls, nil)
		key := tokencache.AssertionKey(mustVerify(t, account, "incoming")) // for an hour
		mustToken(t, cache.Partition(key), a, "read")
		time.Sleep(59 * time.Minute)
		mustToken(t, cache.Partition(key), nil, "read")
		time.Sleep(2 * time.Minute)
		_, err := cache.Partition(key).Token(t.Context(), request("read"), nil)
		wantError(t, err, tokencache.ErrNoTokens)
		if got := calls.Calls(providertest.OpTouch); got != 0 {
			t.Errorf("it was touched %d times", got)
		}
	})
}
