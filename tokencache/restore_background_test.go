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

// What another machine has to restore, and does not, holds up nothing of what this
// one can: many users work on both.
func TestRestoringBesideWhatIsAwaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const users, awaited = 40, 20
		l := newLost(t)
		faults := providertest.NewFaults(l.store)
		gone := newCache(t, faults, &tokencache.Options{Keys: l.keys})
		var keys []tokencache.Key
		for i := range users {
			ticket, err := l.cache.SignIn(t.Context(), l.a.signInAs(fmt.Sprint("user-", i), "read"))
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, ticket.Key())
		}
		l.store.replicate()
		for _, key := range keys {
			mustToken(t, l.cache.Partition(key), l.a, "write")
		}
		for _, key := range keys[users-awaited:] { // the newest of what the other has written
			mustToken(t, gone.Partition(key), l.a, "there")
		}
		synctest.Wait()
		faults.Set(providertest.Down())
		l.store.failAndReconnect()
		other := l.machine(t, &log{})
		for _, key := range keys[:users-awaited] {
			mustToken(t, other.Partition(key), l.a, "third")
		}
		if got := l.a.reused.Load(); got != 0 {
			t.Errorf("%d refresh tokens were used twice", got)
		}
		time.Sleep(7 * time.Second) // nobody is waited for one after another
		for _, key := range keys {
			if err := l.cache.Partition(key).Check(t.Context()); err != nil {
				t.Fatalf("a user is refused still: %v", err)
			}
		}
	})
}

// soon is an incoming token that is valid for little longer.
type soon struct{}

func (soon) Verify(context.Context, string) (tokencache.AssertionClaims, error) {
	return tokencache.AssertionClaims{Account: account, Expires: time.Now().Add(30 * time.Second)}, nil
}

// What has expired by itself was not lost.
func TestReconnectionAfterAnExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		incoming, err := tokencache.VerifyAssertion(t.Context(), soon{}, "marker-incoming")
		if err != nil {
			t.Fatal(err)
		}
		l.token(t, l.cache, "write")
		mustToken(t, l.cache.Partition(tokencache.AssertionKey(incoming)), l.a, "api")
		time.Sleep(40 * time.Second)
		saves := l.faults.Calls(providertest.OpSave)
		l.store.failAndReconnect()
		time.Sleep(5 * time.Second)
		if got := l.faults.Calls(providertest.OpSave) - saves; got != 1 {
			t.Errorf("%d saves, want that of what was lost", got)
		}
		l.token(t, l.machine(t, &log{}), "write")
		l.a.wantRefreshes(t, 2)
	})
}
