package tokencache_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// What one machine has done, no other does, until the time has come.
func TestOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		provider := newProvider(t)
		caches := []*tokencache.Cache{newCache(t, provider, nil), newCache(t, provider, nil)}
		calls := 0
		try := func(i int, text string, fails error) (bool, error) {
			return caches[i].Once(t.Context(), text, time.Now().Add(time.Minute), func(context.Context) error {
				calls++
				return fails
			})
		}
		failed := errors.New("failed")
		if done, err := try(0, "marker-a", failed); !done || !errors.Is(err, failed) {
			t.Errorf("what fails: %v, %v", done, err)
		}
		for i, want := range []bool{true, false, false} {
			if done, err := try(i%2, "marker-a", nil); done != want || err != nil {
				t.Errorf("try %d: %v, %v", i, done, err)
			}
		}
		if done, _ := try(1, "marker-b", nil); !done {
			t.Error("another text was not done")
		}
		time.Sleep(61 * time.Second)
		if done, _ := try(1, "marker-a", nil); !done || calls != 4 {
			t.Errorf("afterwards: %v, %d calls", done, calls)
		}
		if done, err := try(0, "", nil); done || err == nil {
			t.Errorf("of nothing: %v, %v", done, err)
		}
	})
}

// An outage is no answer.
func TestOnceInAnOutage(t *testing.T) {
	t.Parallel()
	faults := providertest.NewFaults(newProvider(t))
	cache := newCache(t, faults, nil)
	faults.Set(providertest.Down())
	done, err := cache.Once(t.Context(), "marker", time.Now().Add(time.Minute), func(context.Context) error {
		t.Error("it was done")
		return nil
	})
	if done || !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("%v, %v", done, err)
	}
}

// Where sessions cannot be found, nobody is told that they have ended.
func TestSignOutAccountWithoutIndex(t *testing.T) {
	t.Parallel()
	a, provider := newAuthority(), &faulty{Provider: newProvider(t), hide: func(c *tokencache.Capabilities) { c.Owners = nil }}
	cache := newCache(t, provider, nil)
	ticket := mustSignIn(t, cache, a, "read")
	if err := cache.SignOutAccount(t.Context(), account, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	mustToken(t, cache.Partition(ticket.Key()), nil, "read")
}
