package tokencache_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A sign-out elsewhere overtakes a save: what this partition value has just saved
// is not served, by it or by L1.
func TestSignOutOvertakesASave(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
	one, two := newCache(t, provider, nil), newCache(t, provider.Provider, nil)
	ticket := mustSignIn(t, one, a, "read")
	var once sync.Once
	provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		err := provider.Provider.Save(ctx, n, r, c)
		once.Do(func() {
			if err := two.Partition(ticket.Key()).SignOut(ctx, nil); err != nil {
				t.Error(err)
			}
		})
		return err
	})
	p := one.Partition(ticket.Key())
	for _, scope := range []string{"write", "read"} { // the first is saved, then removed
		_, err := p.Token(t.Context(), request(scope), a)
		wantError(t, err, tokencache.ErrRemoved)
	}
	wantError(t, p.Check(t.Context()), tokencache.ErrRemoved)
	wantError(t, one.Partition(ticket.Key()).Check(t.Context()), tokencache.ErrRemoved)
}

// Where nobody tells of changes, a machine that happens to read the tombstone
// ends its copy at once.
func TestTombstoneReadEndsTheCopy(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	provider := &faulty{Provider: newProvider(t), hide: func(c *tokencache.Capabilities) { c.Watcher = nil }}
	one, two := newCache(t, provider, nil), newCache(t, provider, nil)
	ticket := mustSignIn(t, one, a, "read")
	if err := two.Partition(ticket.Key()).SignOut(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	mustToken(t, one.Partition(ticket.Key()), nil, "read")
	for _, scope := range []string{"write", "read"} { // the first asks the store
		_, err := one.Partition(ticket.Key()).Token(t.Context(), request(scope), a)
		wantError(t, err, tokencache.ErrRemoved)
	}
}

// A copy that was put in the place of an expired one ends with a sign-out, on this
// machine or another.
func TestSignOutReachesARenewedCopy(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]int{"this machine": 0, "another": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				provider, a := newProvider(t), newAuthority()
				options := &tokencache.Options{L1MaxAge: 10500 * time.Millisecond}
				caches := []*tokencache.Cache{newCache(t, provider, options), newCache(t, provider, options)}
				ticket := mustSignIn(t, caches[0], a, "read")
				time.Sleep(options.L1MaxAge + 10*time.Millisecond) // expired, and not swept yet
				if tok := mustToken(t, caches[0].Partition(ticket.Key()), nil, "read"); tok.Source != tokencache.SourceProvider {
					t.Fatalf("the copy came from %v", tok.Source)
				}
				if err := caches[by].Partition(ticket.Key()).SignOut(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				_, err := caches[0].Partition(ticket.Key()).Token(t.Context(), request("read"), nil)
				wantError(t, err, tokencache.ErrRemoved)
			})
		})
	}
}

// No copy outlives the partition's absolute end, in L1 or in a partition value.
func TestCopiesEndWithThePartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		cache := newCache(t, newProvider(t), &tokencache.Options{AbsoluteTimeout: time.Minute, L1MaxAge: time.Hour})
		ticket := mustSignIn(t, cache, a, "read")
		held := cache.Partition(ticket.Key())
		mustToken(t, held, a, "write") // it remembers what it has saved
		time.Sleep(time.Minute - time.Second)
		mustToken(t, held, nil, "read")
		time.Sleep(time.Second)
		for _, p := range []*tokencache.Partition{held, cache.Partition(ticket.Key())} {
			_, err := p.Token(t.Context(), request("read"), nil)
			wantError(t, err, tokencache.ErrNoTokens)
		}
	})
}
