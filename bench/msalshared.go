package main

import (
	"sync"
	"sync/atomic"
)

// measureShared counts the calls that fail, while the tokens of all users are there and
// valid: of one MSAL client that all of them share, with a store outside of it, and of
// the cache.
func measureShared(rounds int, hits batch) ([]figure, error) {
	peer, err := newPeer(activeUsers, true)
	if err != nil {
		return nil, err
	}
	client, err := peer.client()
	if err != nil {
		return nil, err
	}
	calls := rounds * activeUsers / goroutines
	shared := share(calls, func(user int) error { return peer.ask(client, user) })
	own := share(calls, func(user int) error { return hits(user, 1) })
	return []figure{
		{"calls that fail, one MSAL client for all users, 16 goroutines", shared, "%", bar{}, "all tokens are cached and valid"},
		{"calls that fail, Token, the same users", own, "%", atMost(0), ""},
	}, nil
}

// share returns how many calls fail, in percent, if each goroutine makes so many.
func share(calls int, ask func(user int) error) float64 {
	var wg sync.WaitGroup
	var failed atomic.Int64
	for g := range goroutines {
		wg.Go(func() {
			for i := range calls {
				if ask(g*activeUsers/goroutines+i) != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return 100 * float64(failed.Load()) / float64(calls*goroutines)
}
