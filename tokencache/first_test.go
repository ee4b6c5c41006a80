package tokencache_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// One of many machines is the first, until the time has come.
func TestFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		provider := newProvider(t)
		caches := []*tokencache.Cache{newCache(t, provider, nil), newCache(t, provider, nil)}
		race := func(text string) (first int64) {
			var count atomic.Int64
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					ok, err := caches[i%2].First(t.Context(), text, time.Now().Add(time.Minute))
					if err != nil {
						t.Error(err)
					}
					if ok {
						count.Add(1)
					}
				})
			}
			wg.Wait()
			return count.Load()
		}
		for text, want := range map[string]int64{"marker-a": 1, "marker-b": 1} {
			if got := race(text); got != want {
				t.Errorf("%d were the first", got)
			}
			if got := race(text); got != 0 {
				t.Errorf("%d were the first again", got)
			}
		}
		time.Sleep(61 * time.Second)
		if got := race("marker-a"); got != 1 {
			t.Errorf("%d were the first afterwards", got)
		}
	})
}

// A reply that was lost makes nobody the second, and an outage nobody the first.
func TestFirstInAnOutage(t *testing.T) {
	t.Parallel()
	store := newProvider(t)
	f := &faulty{Provider: store}
	cache := newCache(t, f, nil)
	f.set(nil, loseReply(store, tokencache.ErrConflict))
	if ok, err := cache.First(t.Context(), "marker", time.Now().Add(time.Minute)); !ok || err != nil {
		t.Errorf("with a lost reply: %v, %v", ok, err)
	}
	faults := providertest.NewFaults(store)
	cache = newCache(t, faults, nil)
	faults.Set(providertest.Down())
	if ok, err := cache.First(t.Context(), "marker-2", time.Now().Add(time.Minute)); ok || !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("in an outage: %v, %v", ok, err)
	}
	if ok, err := cache.First(t.Context(), "", time.Now().Add(time.Minute)); ok || err == nil || strings.Contains(err.Error(), "marker") {
		t.Errorf("of nothing: %v, %v", ok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, _ := cache.First(ctx, "marker-3", time.Now().Add(time.Minute)); ok {
		t.Error("somebody who has left is the first")
	}
}
