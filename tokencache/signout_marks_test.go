package tokencache_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// What a sign-out everywhere did not reach, because the store went down in the
// middle of it, stays removed for as long as it is stored.
func TestSignOutEverywhereThatWasCutShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, &tokencache.Options{IdleTimeout: time.Hour})
		ticket := mustSignIn(t, cache, a, "read")
		faults.Set(providertest.Down(), providertest.OpSave)
		wantError(t, cache.Partition(ticket.Key()).SignOutEverywhere(t.Context(), nil), tokencache.ErrUnavailable)
		faults.Clear()
		for range 64 { // beyond which it has vanished
			time.Sleep(time.Minute)
			wantError(t, cache.Partition(ticket.Key()).Check(t.Context()), tokencache.ErrNoTokens)
		}
		again := mustSignIn(t, cache, a, "read")
		mustToken(t, cache.Partition(again.Key()), a, "write")
	})
}

// It can be repeated, and then also revokes what the mark alone has ended.
func TestSignOutEverywhereRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, nil)
		p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
		faults.Set(providertest.Down(), providertest.OpSave)
		wantError(t, p.SignOutEverywhere(t.Context(), nil), tokencache.ErrUnavailable)
		faults.Clear()
		time.Sleep(time.Second)
		if err := p.SignOutEverywhere(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if got := a.revokes.Load(); got != 1 {
			t.Errorf("%d refresh tokens were revoked, want the one that was still stored", got)
		}
	})
}

// An earlier removal is no reason to refuse what was obtained without the
// provider since; a later one is.
func TestTokensObtainedAloneAfterARemoval(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]bool{"earlier": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, store := newAuthority(), newProvider(t)
				faults := providertest.NewFaults(store)
				cut, other := newCache(t, faults, nil), newCache(t, store, nil)
				key := tokencache.AssertionKey(mustVerify(t, account, "incoming"))
				signOut := func() {
					time.Sleep(time.Second)
					p := other.Partition(mustSignIn(t, other, a, "read").Key())
					if err := p.SignOutEverywhere(t.Context(), nil); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
				}
				signOut()
				faults.Set(providertest.Down())
				mustToken(t, cut.Partition(key), a, "api")
				if later {
					signOut()
				}
				faults.Clear()
				time.Sleep(time.Second)
				_, err := other.Partition(key).Token(t.Context(), request("api"), nil)
				if later {
					wantError(t, err, tokencache.ErrNoTokens)
				} else if err != nil {
					t.Errorf("it was not stored: %v", err)
				}
			})
		})
	}
}
