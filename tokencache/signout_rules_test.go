package tokencache_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// Whoever signs out everywhere is told if that could not be done, or only for the
// own partition.
func TestSignOutEverywhereReportsFailure(t *testing.T) {
	t.Parallel()
	for op, left := range map[providertest.Op]error{
		providertest.OpSetMark: nil, // nothing is removed without the mark
		providertest.OpList:    tokencache.ErrRemoved,
	} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
			cache := newCache(t, faults, nil)
			p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
			faults.Set(providertest.Down(), op)
			wantError(t, p.SignOutEverywhere(t.Context(), a), tokencache.ErrUnavailable)
			wantError(t, p.Check(t.Context()), left)
			faults.Clear()
			if err := p.SignOutEverywhere(t.Context(), a); err != nil {
				t.Errorf("repeated: %v", err)
			}
			wantError(t, p.Check(t.Context()), tokencache.ErrRemoved)
		})
	}
}

// The mark outlives the longest request, as a tombstone does: what was asked for
// before is refused whenever it comes.
func TestSignOutEverywhereDuringASlowCreation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		provider, a := newProvider(t), newAuthority()
		one, two := newCache(t, provider, nil), newCache(t, provider, nil)
		ticket := mustSignIn(t, one, a, "read")
		key := tokencache.AssertionKey(mustVerify(t, account, "incoming"))
		a.before = func(ctx context.Context) error {
			err := two.Partition(ticket.Key()).SignOutEverywhere(ctx, nil)
			time.Sleep(4 * time.Minute)
			return err
		}
		_, _ = one.Partition(key).Token(t.Context(), request("read"), a)
		_, err := two.Partition(key).Token(t.Context(), request("read"), nil)
		wantError(t, err, tokencache.ErrNoTokens)
	})
}

// hangingRevoke is a server that does not answer when it is to revoke.
type hangingRevoke struct{ serverFunc }

func (hangingRevoke) Revoke(ctx context.Context, _ tokencache.Secret) error {
	<-ctx.Done()
	return ctx.Err()
}

// The server is told although the request has ended, and holds nobody for long.
func TestRevocationOutlivesItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		cache := newCache(t, newProvider(t), nil)
		p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		began := time.Now()
		wantError(t, p.SignOut(ctx, hangingRevoke{}), context.DeadlineExceeded)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %v, want 5s", took)
		}
	})
}

// A provider that hangs is not asked to keep more than a few partitions alive at
// the same moment.
func TestUpkeepIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		a.lifetime = 1000 * time.Hour
		cache := newCache(t, faults, nil)
		var keys []tokencache.Key
		for i := range 20 {
			ticket, err := cache.SignIn(t.Context(), a.signInAs(fmt.Sprint("user-", i), "read"))
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, ticket.Key())
		}
		time.Sleep(5 * day)
		faults.Set(providertest.Hang(), providertest.OpTouch)
		for range 2 { // and what has hung makes room for others
			before := faults.Calls(providertest.OpTouch)
			for _, key := range keys {
				mustToken(t, cache.Partition(key), nil, "read")
			}
			synctest.Wait()
			if got := faults.Calls(providertest.OpTouch) - before; got != 8 {
				t.Errorf("%d partitions are kept alive at once, want 8", got)
			}
			time.Sleep(time.Minute)
		}
	})
}
