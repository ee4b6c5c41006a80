package tokencache_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// A provider that is not asked has not failed once more: each load and save that
// events tell of was made, so that an outage does not fill the log.
func TestEventsTellOfCallsThatWereMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		faults, a := providertest.NewFaults(newProvider(t)), newAuthority()
		cache := newCache(t, faults, &tokencache.Options{Events: events.add})
		mustSignIn(t, cache, a, "read")
		faults.Set(providertest.Down())
		loads, saves, leases := faults.Calls(providertest.OpLoad), faults.Calls(providertest.OpSave), faults.Calls(providertest.OpAcquire)
		events.take()
		for range 20 {
			_, err := cache.Partition(tokencache.AccountKey("somebody")).Token(t.Context(), request("read"), a)
			wantError(t, err, tokencache.ErrUnavailable)
		}
		_, err := cache.Partition(tokencache.ApplicationKey("", "api")).Token(t.Context(), request("api"), a)
		if err != nil {
			t.Fatal(err)
		}
		_, err = cache.SignIn(t.Context(), a.signInAs("bob", "read"))
		wantError(t, err, tokencache.ErrUnavailable)
		got := events.take()
		for event, made := range map[string]int{
			"load":         faults.Calls(providertest.OpLoad) - loads,
			"save":         faults.Calls(providertest.OpSave) - saves,
			"lease failed": faults.Calls(providertest.OpAcquire) - leases,
		} {
			told := len(slices.DeleteFunc(slices.Clone(got), func(e string) bool { return e != event }))
			if told != made {
				t.Errorf("%d events %q of %d calls", told, event, made)
			}
		}
		faults.Clear()
	})
}

// Nobody has waited for another's work when the cache is closed.
func TestClosedIsNoWait(t *testing.T) {
	t.Parallel()
	var events log
	a := newAuthority()
	cache := newCache(t, newProvider(t), &tokencache.Options{Events: events.add})
	ticket := mustSignIn(t, cache, a, "read")
	if err := cache.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	events.take()
	if _, err := cache.Partition(ticket.Key()).Token(t.Context(), request("write"), a); err == nil {
		t.Error("a closed cache has refreshed")
	}
	if got := events.take(); slices.Contains(got, "wait flight") {
		t.Errorf("the events are %q: there was nobody to wait for", got)
	}
}

// Whoever signs out everywhere does not wait for a store that has gone down once
// for each of their partitions.
func TestSignOutEverywhereIntoAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const partitions = 40
		faults, a := providertest.NewFaults(newProvider(t)), newAuthority()
		cache := newCache(t, faults, nil)
		ticket := mustSignIn(t, cache, a, "read")
		for i := range partitions {
			key := tokencache.AssertionKey(mustVerify(t, account, fmt.Sprint("token ", i)))
			mustToken(t, cache.Partition(key), a, "api")
		}
		faults.Set(func(ctx context.Context, call *providertest.Call) error {
			defer faults.Set(providertest.Down(), providertest.OpLoad, providertest.OpSave)
			return call.Do(ctx)
		}, providertest.OpList)
		began := time.Now()
		err := cache.Partition(ticket.Key()).SignOutEverywhere(t.Context(), a)
		wantError(t, err, tokencache.ErrUnavailable)
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
		faults.Clear()
		time.Sleep(time.Second)
		if err := cache.Partition(ticket.Key()).SignOutEverywhere(t.Context(), a); err != nil {
			t.Errorf("repeated: %v", err)
		}
	})
}

// Signing in tries longer than signing out: by then there are tokens to lose. Both
// end, and say that the store is down.
func TestSignInAndOutIntoAnOutage(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]providertest.Fault{"down": providertest.Down(), "hangs": providertest.Hang()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				faults, a := providertest.NewFaults(newProvider(t)), newAuthority()
				cache := newCache(t, faults, nil)
				ticket := mustSignIn(t, cache, a, "read")
				faults.Set(fault)
				for _, step := range []struct {
					name string
					most time.Duration
					op   func() error
				}{
					{"sign in", 7 * time.Second, func() error { _, err := cache.SignIn(t.Context(), a.signInAs("bob", "read")); return err }},
					{"sign out", 2 * time.Second, func() error { return cache.Partition(ticket.Key()).SignOut(t.Context(), a) }},
					{"everywhere", 2 * time.Second, func() error { return cache.Partition(ticket.Key()).SignOutEverywhere(t.Context(), a) }},
				} {
					began := time.Now()
					wantError(t, step.op(), tokencache.ErrUnavailable)
					if took := time.Since(began); took > step.most || took < step.most/2 {
						t.Errorf("%s took %v, want up to %v", step.name, took, step.most)
					}
				}
				faults.Clear()
				time.Sleep(time.Second)
				mustToken(t, cache.Partition(ticket.Key()), a, "read")
			})
		})
	}
}
