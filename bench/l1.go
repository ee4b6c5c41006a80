package main

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"
)

// bareKey has the fields of the key that L1 uses: kind, account, tenant, part.
type bareKey struct {
	kind                  uint8
	account, tenant, part string
}

// bareCache is an otter cache as L1 is one: the same kind of key, a pointer as
// value, a weight limit and a weigher, a lifetime by entry.
func bareCache(users int) (*otter.Cache[bareKey, *int], []bareKey) {
	c := otter.Must(&otter.Options[bareKey, *int]{
		MaximumWeight:    64 << 20,
		Weigher:          func(bareKey, *int) uint32 { return 8 << 10 },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(otter.Entry[bareKey, *int]) time.Duration { return time.Hour }),
	})
	keys := make([]bareKey, users)
	for i := range keys {
		keys[i] = bareKey{1, accountID(i), "", ""}
		c.Set(keys[i], &i)
	}
	return c, keys
}

func measureL1(rounds int) ([]figure, error) {
	provider, err := newProvider()
	if err != nil {
		return nil, err
	}
	defer func() { _ = provider.Close(context.Background()) }()
	cache, err := newCache(provider, true)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cache.Close(context.Background()) }()
	keys, err := signIn(cache)
	if err != nil {
		return nil, err
	}
	if err := fillL1(cache, keys); err != nil {
		return nil, err
	}
	hits := tokens(cache, keys, fromL1)
	bare, bareKeys := bareCache(activeUsers)
	defer bare.StopAllGoroutines()
	gets := func(first, n int) error {
		for i := range n {
			if _, ok := bare.GetIfPresent(bareKeys[(first+i)%len(bareKeys)]); !ok {
				return errMiss
			}
		}
		return nil
	}
	toOtter, err := ratio("token from L1, to a bare otter Get, 16 goroutines", atMost(3.5), rounds,
		side{"Get", gets}, side{"token", hits})
	if err != nil {
		return nil, err
	}
	allocs, err := allocations(hits)
	if err != nil {
		return nil, err
	}
	figures := []figure{toOtter, {"token from L1, allocations", allocs, "", atMost(1), ""}}
	for _, m := range []struct {
		what      string
		discovery bool
		bar       bar
	}{
		{"MSAL Go, a fresh client per call, to a token from L1", true, atLeast(300)},
		{"the same, with MSAL's instance discovery off", false, bar{}},
	} {
		peer, err := newPeer(activeUsers, m.discovery)
		if err != nil {
			return nil, err
		}
		f, err := ratio(m.what, m.bar, rounds, side{"token", hits}, side{"MSAL", peer.silent})
		if err != nil {
			return nil, err
		}
		if err := peer.askedOnce(); err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	failures, err := measureShared(rounds, hits)
	return append(figures, failures...), err
}
