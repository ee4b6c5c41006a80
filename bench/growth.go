package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	fewPartitions  = 1000
	manyPartitions = 1_000_000
)

// shop is a provider with so many partitions, a cache that copies, and one that
// does not.
type shop struct {
	copying, loading *tokencache.Cache
	keys             []tokencache.Key // of the active users
	close            func()
}

// measureGrowth compares requests of the same number of active users, where
// they are all there are and where they are one in a thousand. So it shows what
// the number of partitions costs, and not that a processor's caches hold a
// thousand users and not a million: that is the last figure, which has no bar.
// Both sides share one heap; what the garbage collector takes for a million
// partitions slows both, and is not in the ratios.
func measureGrowth(rounds int) ([]figure, error) {
	few, err := newShop(fewPartitions)
	if err != nil {
		return nil, err
	}
	defer few.close()
	many, err := newShop(manyPartitions)
	if err != nil {
		return nil, err
	}
	defer many.close()

	var figures []figure
	for _, c := range []struct {
		what      string
		bar       bar
		few, many batch
	}{
		{"1 000 000 partitions to 1 000: token from L1", atMost(1.2),
			tokens(few.copying, few.keys, fromL1), tokens(many.copying, many.keys, fromL1)},
		{"1 000 000 partitions to 1 000: token from the provider", atMost(1.2),
			tokens(few.loading, few.keys, fromProvider), tokens(many.loading, many.keys, fromProvider)},
		{"the same, if all users are equally active", bar{},
			anybody(few.loading, fewPartitions), anybody(many.loading, manyPartitions)},
	} {
		f, err := ratio(c.what, c.bar, rounds, side{"few", c.few}, side{"many", c.many})
		if err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	return figures, nil
}

func newShop(partitions int) (*shop, error) {
	provider, err := newProvider()
	if err != nil {
		return nil, err
	}
	s := &shop{}
	if s.keys, err = stock(provider, partitions, goroutines); err != nil {
		return nil, err
	}
	if s.copying, err = newCache(provider, true); err != nil {
		return nil, err
	}
	if s.loading, err = newCache(provider, false); err != nil {
		return nil, err
	}
	s.close = func() {
		for _, c := range []interface{ Close(context.Context) error }{s.copying, s.loading, provider} {
			_ = c.Close(context.Background())
		}
	}
	// L1 is bounded by its size and never holds a million: first it gets as much
	// as it takes of anybody, then those who come often.
	if err := anybody(s.copying, partitions)(0, 100_000); err != nil {
		return nil, fmt.Errorf("filling L1: %w", err)
	}
	if err := fillL1(s.copying, s.keys); err != nil {
		return nil, fmt.Errorf("filling L1: %w", err)
	}
	return s, nil
}

// anybody asks for a token of a user drawn from all of them.
func anybody(c *tokencache.Cache, users int) batch {
	return func(_, n int) error {
		for range n {
			key := tokencache.AccountKey(accountID(rand.IntN(users))) // #nosec G404 -- no secret
			if _, err := c.Partition(key).Token(context.Background(), request, nil); err != nil {
				return err
			}
		}
		return nil
	}
}
