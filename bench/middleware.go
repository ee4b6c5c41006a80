package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// counting counts the calls of the provider.
type counting struct {
	tokencache.Provider
	calls atomic.Int64
}

func (c *counting) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	c.calls.Add(1)
	return c.Provider.Load(ctx, n)
}

func (c *counting) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, cond tokencache.Condition) error {
	c.calls.Add(1)
	return c.Provider.Save(ctx, n, r, cond)
}

// measureMiddleware measures a request that asks for no token: with the key at
// hand, which is the middleware alone, and with a ticket from a session.
func measureMiddleware(rounds int) ([]figure, error) {
	provider, err := newProvider()
	if err != nil {
		return nil, err
	}
	defer func() { _ = provider.Close(context.Background()) }()
	counted := &counting{Provider: provider}
	cache, err := newCache(counted, true)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cache.Close(context.Background()) }()
	ticket, err := cache.SignIn(context.Background(), func(context.Context) (tokencache.Grant, error) { return grant(0), nil })
	if err != nil {
		return nil, err
	}
	key, text := ticket.Key(), ticket.Encode()
	// Listening for changes may have begun after the sign-in, which is then looked for.
	time.Sleep(50 * time.Millisecond)
	bare := requests(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	around := func(resolve middleware.Resolver) batch {
		return requests(middleware.LoadAndSave(cache, resolve)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	}
	atHand := around(func(*http.Request) (tokencache.Key, bool) { return key, true })
	fromSession := around(middleware.SessionAccount(func(context.Context) string { return text }))

	counted.calls.Store(0)
	var allocs [3]float64
	for i, do := range []batch{bare, atHand, fromSession} {
		if allocs[i], err = allocations(do); err != nil {
			return nil, err
		}
	}
	took, err := cost(rounds, atHand)
	if err != nil {
		return nil, err
	}
	return []figure{
		{"request that asks for no token: provider calls", float64(counted.calls.Load()), "", atMost(0), ""},
		{"request that asks for no token: allocations more", allocs[1] - allocs[0], "", atMost(3), took.String() + " with LoadAndSave"},
		{"the same, with a ticket from the session", allocs[2] - allocs[0], "", bar{}, "SessionAccount reads the ticket"},
	}, nil
}

func requests(h http.Handler) batch {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
	w := httptest.NewRecorder()
	return func(_, n int) error {
		for range n {
			h.ServeHTTP(w, r)
		}
		return nil
	}
}
