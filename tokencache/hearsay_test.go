package tokencache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// newLate returns a user whose last refresh a failover loses, the machine that
// wrote it, which cannot store anything any more, and another one that has heard of
// it and has nothing in memory.
func newLate(t *testing.T) (l *lost, writer *providertest.Faults, other *tokencache.Cache) {
	t.Helper()
	l = newLost(t)
	other = newCache(t, l.store, &tokencache.Options{Keys: l.keys})
	l.token(t, l.cache, "write")
	synctest.Wait()
	l.faults.Set(providertest.Down())
	l.store.fail()
	return l, l.faults, other
}

// Another machine does not spend what came back, however late the one comes that
// has to restore it.
func TestFailoverAndTheWriterIsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, writer, other := newLate(t)
		for range 20 {
			_, err := other.Partition(l.ticket.Key()).Token(t.Context(), request("third"), l.a)
			wantError(t, err, tokencache.ErrUnavailable)
			// Nor what it has for reading: the user may have signed out.
			wantError(t, other.Partition(l.ticket.Key()).Check(t.Context()), tokencache.ErrUnavailable)
			time.Sleep(100 * time.Millisecond)
		}
		writer.Clear()
		time.Sleep(2 * time.Second)
		l.token(t, other, "third")
		l.a.wantRefreshes(t, 2)
	})
}

// Who signs in has tokens of their own, and does not wait for what was lost.
func TestFailoverAndASignInMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _, other := newLate(t)
		mustSignIn(t, other, l.a, "read")
		l.token(t, other, "third")
		if got := l.a.reused.Load(); got != 0 {
			t.Errorf("%d refresh tokens were used twice", got)
		}
	})
}

// Who signs out does not wait either, and stays signed out when it comes.
func TestFailoverAndASignOutMeanwhile(t *testing.T) {
	t.Parallel()
	for name, signOut := range map[string]func(*tokencache.Partition, context.Context, tokencache.Server) error{
		"of one":     (*tokencache.Partition).SignOut,
		"everywhere": (*tokencache.Partition).SignOutEverywhere,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, writer, other := newLate(t)
				if err := signOut(other.Partition(l.ticket.Key()), t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				writer.Clear()
				for range 10 {
					time.Sleep(time.Second)
					for _, c := range []*tokencache.Cache{l.cache, other} {
						_, err := c.Partition(l.ticket.Key()).Token(t.Context(), request("third"), l.a)
						wantError(t, err, tokencache.ErrRemoved)
					}
				}
			})
		})
	}
}

// What came back of an earlier sign-in does not make a sign-out seem done.
func TestFailoverToAnotherSignInAndASignOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		other := newCache(t, l.store, &tokencache.Options{Keys: l.keys})
		if err := l.cache.Partition(l.ticket.Key()).SignOut(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		l.ticket = mustSignIn(t, l.cache, l.a, "again")
		synctest.Wait()
		l.faults.Set(providertest.Down())
		l.store.fail()
		wantError(t, other.Partition(l.ticket.Key()).SignOut(t.Context(), nil), tokencache.ErrUnavailable)
		l.faults.Clear()
	})
}

// A machine that does not come back is not waited for forever.
func TestFailoverAndTheWriterIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _, other := newLate(t)
		began := time.Now()
		for other.Partition(l.ticket.Key()).Check(t.Context()) != nil {
			if time.Since(began) > 6*time.Second {
				t.Fatal("it is waited for longer than 6 s")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if since := time.Since(began); since < 4*time.Second {
			t.Errorf("it was waited for only %v", since)
		}
	})
}

// A load that was on its way when it was overtaken is repeated, not refused.
func TestHearsayAboutALoadUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLost(t)
		faults := providertest.NewFaults(l.store)
		other := newCache(t, faults, &tokencache.Options{Keys: l.keys})
		synctest.Wait()
		faults.Set(providertest.First(1, func(ctx context.Context, c *providertest.Call) error {
			err := c.Do(ctx)
			time.Sleep(time.Millisecond)
			l.token(t, l.cache, "write")
			synctest.Wait()
			return err
		}), providertest.OpLoad)
		l.token(t, other, "write")
		l.a.wantRefreshes(t, 1)
	})
}
