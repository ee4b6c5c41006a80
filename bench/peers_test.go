package main

import (
	"context"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Both sides must have the same work to do, and do it.
func TestPeerAnswersFromItsCache(t *testing.T) {
	t.Parallel()
	for _, discovery := range []bool{true, false} {
		p, err := newPeer(3, discovery)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.silent(1, 5); err != nil {
			t.Fatal(err)
		}
		if got := p.http.tokens.Load(); got != 3 {
			t.Errorf("MSAL asked for tokens %d times, want once for each of 3 users", got)
		}
		p.store.(*blobs).m.Range(func(key, blob any) bool {
			if size := len(blob.([]byte)); size < 4500 || size > 5500 {
				t.Errorf("MSAL stores %d bytes for %v, want about 5 KB", size, key)
			}
			return true
		})
	}
}

func TestStock(t *testing.T) {
	t.Parallel()
	provider, err := newProvider()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = provider.Close(context.Background()) }()
	const users = 50
	if _, err := stock(provider, users, goroutines); err != nil {
		t.Fatal(err)
	}
	cache, err := newCache(provider, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cache.Close(context.Background()) }()
	for i := range users + 1 {
		all, err := cache.Partition(tokencache.AccountKey(accountID(i))).Tokens(context.Background())
		if (err == nil) != (i < users) {
			t.Errorf("user %d of %d: error %v", i, users, err)
		}
		if err == nil && len(all.Entries()) != 3 {
			t.Errorf("user %d has %d entries, want 3", i, len(all.Entries()))
		}
	}
}

func TestBareCacheHoldsAllUsers(t *testing.T) {
	t.Parallel()
	bare, keys := bareCache(activeUsers)
	defer bare.StopAllGoroutines()
	for _, key := range keys {
		if _, ok := bare.GetIfPresent(key); !ok {
			t.Fatal("an entry was evicted")
		}
	}
}

func TestMiddlewareFigures(t *testing.T) {
	figures, err := measureMiddleware(1)
	if err != nil {
		t.Fatal(err)
	}
	if n := countMissed(figures); n > 0 {
		t.Errorf("%d bars missed: %+v", n, figures)
	}
}
