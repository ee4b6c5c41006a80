package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// remote makes a provider one whose calls leave the process.
func remote(p tokencache.Provider) *faulty {
	return &faulty{Provider: p, hide: func(c *tokencache.Capabilities) { c.InProcess = false }}
}

// A driver that does not look at its context holds nobody beyond the deadline,
// and what it still does is waited for by Close.
func TestDeafProvider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		provider := remote(newProvider(t))
		cache, err := tokencache.New(provider, namespace, &tokencache.Options{Keys: newKeys(t)})
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan struct{})
		provider.set(func(context.Context, tokencache.Name) (tokencache.Record, error) {
			<-heard
			return tokencache.Record{}, tokencache.ErrNotFound
		}, nil)
		began := time.Now()
		wantError(t, cache.Partition(tokencache.AccountKey(account)).Check(t.Context()), tokencache.ErrUnavailable)
		if took := time.Since(began); took != 250*time.Millisecond {
			t.Errorf("the caller was held for %v, want ProviderTimeout", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantError(t, cache.Close(ctx), context.DeadlineExceeded)
		close(heard)
		if err := cache.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// Calls that never end are bounded, and do not keep the provider from being found
// well again.
func TestProviderThatWasDeafForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		provider, heard := remote(newProvider(t)), make(chan struct{})
		cache := newCache(t, provider, &tokencache.Options{Keys: newKeys(t)})
		check := func() error { return cache.Partition(tokencache.AccountKey(account)).Check(t.Context()) }
		provider.set(func(context.Context, tokencache.Name) (tokencache.Record, error) {
			<-heard
			return tokencache.Record{}, tokencache.ErrNotFound
		}, nil)
		for range 1500 {
			wantError(t, check(), tokencache.ErrUnavailable)
			time.Sleep(210 * time.Millisecond) // the breaker's rest
		}
		if got := provider.loads.Load(); got > 1100 {
			t.Errorf("%d calls hang", got)
		}
		provider.set(nil, nil)
		time.Sleep(10 * time.Second)
		wantError(t, check(), tokencache.ErrNoTokens)
		close(heard)
	})
}

// A lease that is granted after the caller has left is given back.
func TestLeaseThatComesTooLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		late := make(chan struct{})
		provider := &lateLeases{faulty: remote(newProvider(t)), wait: late}
		a := newAuthority()
		cache := newCache(t, provider, &tokencache.Options{Keys: newKeys(t)})
		p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
		_, err := p.Token(t.Context(), request("write"), a)
		wantError(t, err, tokencache.ErrUnavailable)
		close(late)
		synctest.Wait()
		began := time.Now()
		mustToken(t, p, a, "write")
		if took := time.Since(began); took > time.Second {
			t.Errorf("the lease was free after %v: it was not given back", took)
		}
	})
}

type lateLeases struct {
	*faulty
	wait <-chan struct{}
}

func (l *lateLeases) Capabilities() tokencache.Capabilities {
	caps := l.faulty.Capabilities()
	caps.Leaser = lateLeaser{caps.Leaser, l.wait}
	return caps
}

type lateLeaser struct {
	tokencache.Leaser
	wait <-chan struct{}
}

func (l lateLeaser) Acquire(_ context.Context, n tokencache.Name, ttl time.Duration) (tokencache.Lease, error) {
	<-l.wait
	return l.Leaser.Acquire(context.Background(), n, ttl)
}

// After five failures in a row the provider is asked once in a while, and by one
// caller; the first answer ends that.
func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		provider := remote(newProvider(t))
		cache := newCache(t, provider, &tokencache.Options{Keys: newKeys(t), Events: events.add})
		check := func() error { return cache.Partition(tokencache.AccountKey(account)).Check(t.Context()) }
		wantError(t, check(), tokencache.ErrNoTokens)
		provider.set(refuseLoads, nil)
		events.take()
		provider.loads.Store(0)
		for range 100 {
			wantError(t, check(), tokencache.ErrUnavailable)
		}
		if got := provider.loads.Load(); got != 5 {
			t.Errorf("a provider that is down was asked %d times, want 5", got)
		}
		events.wantAmong(t, "outage began")
		time.Sleep(250 * time.Millisecond)
		for range 100 {
			wantError(t, check(), tokencache.ErrUnavailable)
		}
		if got := provider.loads.Load(); got != 6 {
			t.Errorf("it was asked %d times, want 6", got)
		}
		provider.set(nil, nil)
		time.Sleep(250 * time.Millisecond)
		wantError(t, check(), tokencache.ErrNoTokens)
		events.wantAmong(t, "outage over")
	})
}

// Neither a miss nor a record that is too large, nor somebody who leaves is an outage.
func TestBreakerCountsOutagesOnly(t *testing.T) {
	t.Parallel()
	provider := remote(newProvider(t))
	cache := newCache(t, provider, &tokencache.Options{Keys: newKeys(t)})
	for _, answer := range []error{tokencache.ErrNotFound, tokencache.ErrTooLarge} {
		provider.set(func(context.Context, tokencache.Name) (tokencache.Record, error) { return tokencache.Record{}, answer }, nil)
		for i := range 20 {
			_ = cache.Partition(tokencache.AccountKey(fmt.Sprint(account, i))).Check(t.Context())
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	provider.set(hangLoads, nil)
	for range 20 {
		wantError(t, cache.Partition(tokencache.AccountKey(account)).Expire(gone), context.Canceled)
	}
	provider.set(nil, nil)
	wantError(t, cache.Partition(tokencache.AccountKey(account)).Check(t.Context()), tokencache.ErrNoTokens)
}

// A provider that panics does so in its caller, also on a goroutine of its own.
func TestRemoteProviderPanics(t *testing.T) {
	t.Parallel()
	provider := remote(newProvider(t))
	cache := newCache(t, provider, &tokencache.Options{Keys: newKeys(t)})
	provider.set(func(context.Context, tokencache.Name) (tokencache.Record, error) { panic("a bug") }, nil)
	var caught atomic.Value
	func() {
		defer func() { caught.Store(fmt.Sprint(recover())) }()
		_ = cache.Partition(tokencache.AccountKey(account)).Check(t.Context())
	}()
	if caught.Load() != "a bug" {
		t.Errorf("recovered %v", caught.Load())
	}
	provider.set(nil, nil)
	if err := cache.Partition(tokencache.AccountKey(account)).Check(t.Context()); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("afterwards: %v", err)
	}
}
