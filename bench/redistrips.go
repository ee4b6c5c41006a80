package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/middleware"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// trips counts what a client waits for: a command, or a pipeline of some. What it
// says to begin a connection does not count.
type trips struct{ n atomic.Int64 }

// DialHook does nothing.
func (*trips) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook counts a command.
func (t *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		t.count(cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook counts a pipeline.
func (t *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		t.count(cmds[0])
		return next(ctx, cmds)
	}
}

func (t *trips) count(first redis.Cmder) {
	if name := first.Name(); name != "hello" && name != "client" {
		t.n.Add(1)
	}
}

// measureRedisTrips counts round trips: of requests that ask for several tokens
// of a user who is not in L1, one after the other and at once, and of saves.
func measureRedisTrips(b *redisBackend, _ int) (figures []figure, err error) {
	const users, saves, tokensEach = 100, 100, 8
	counted := &trips{}
	client := newRedisClient(b.server)
	defer func() { err = errors.Join(err, client.Close()) }()
	client.AddHook(counted)
	provider, err := redisprovider.New(client, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, provider.Close(context.Background())) }()
	s, err := newSaver(provider, 1, 8<<10) // and the server knows the script
	if err != nil {
		return nil, err
	}
	counted.n.Store(0)
	if err := s.saves(0, saves); err != nil {
		return nil, err
	}
	perSave := float64(counted.n.Load()) / saves

	keys, err := sealingKeys()
	if err != nil {
		return nil, err
	}
	if err := signInOnce(provider, keys, users); err != nil {
		return nil, err
	}
	cache, err := listeningCache(provider, keys)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cache.Close(context.Background()) }()
	counted.n.Store(0)
	if err := askForSeveral(cache, users, tokensEach); err != nil {
		return nil, err
	}
	perRequest := float64(counted.n.Load()) / users
	if perSave < 1 || perRequest < 1 {
		return nil, errOther
	}
	return []figure{
		{"Redis: round trips of a request", perRequest, "", atMost(1), fmt.Sprintf("that asks for %d tokens", tokensEach)},
		{"Redis: round trips of a conditional save", perSave, "", atMost(1), ""},
	}, nil
}

// listeningCache returns a cache that hears of changes: a load which is under way
// when it begins to is repeated.
func listeningCache(p tokencache.Provider, keys *tokencache.Keys) (*tokencache.Cache, error) {
	heard := make(chan struct{})
	var once sync.Once
	cache, err := tokencache.New(p, namespace, &tokencache.Options{
		Keys: keys, ProviderTimeout: patience,
		Events: func(_ context.Context, e tokencache.Event) {
			if e.Kind == tokencache.EventInvalidation {
				once.Do(func() { close(heard) })
			}
		},
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-heard:
		return cache, nil
	case <-time.After(patience):
		return nil, errors.Join(errors.New("the subscription does not come"), cache.Close(context.Background()))
	}
}

// signInOnce signs users in with a cache of their own, so that no other has them
// in L1.
func signInOnce(p tokencache.Provider, keys *tokencache.Keys, users int) error {
	cache, err := tokencache.New(p, namespace, &tokencache.Options{Keys: keys, ProviderTimeout: patience})
	if err != nil {
		return err
	}
	defer func() { _ = cache.Close(context.Background()) }()
	for i := range users {
		// Two sign-ins, and so two access tokens.
		for _, scope := range []string{"api://orders/Read", "api://billing/Read"} {
			if _, err := cache.SignIn(context.Background(), func(context.Context) (tokencache.Grant, error) {
				g := grant(i)
				g.Scopes = []string{scope}
				return g, nil
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// askForSeveral sends a request for each user through the middleware. Half of the
// tokens are asked for in turn, and before them half at once.
func askForSeveral(cache *tokencache.Cache, users, tokensEach int) error {
	var failed error
	h := middleware.LoadAndSave(cache, func(r *http.Request) (tokencache.Key, bool) {
		return tokencache.AccountKey(r.Header.Get("User")), true
	})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		p, ok := cache.FromContext(r.Context())
		if !ok {
			failed = errMiss
			return
		}
		failed = errors.Join(failed, severalOf(r.Context(), p, tokensEach))
	}))
	for i := range users {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
		r.Header.Set("User", accountID(i))
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	return failed
}

func severalOf(ctx context.Context, p *tokencache.Partition, tokensEach int) error {
	errs := make([]error, tokensEach)
	ask := func(i int) {
		scope := []string{"api://orders/Read", "api://billing/Read"}[i%2]
		_, errs[i] = p.Token(ctx, tokencache.Request{Scopes: []string{scope}}, nil)
	}
	var wg sync.WaitGroup
	for i := range tokensEach / 2 {
		wg.Go(func() { ask(i) })
	}
	wg.Wait()
	for i := tokensEach / 2; i < tokensEach; i++ {
		ask(i)
	}
	return errors.Join(errs...)
}

// sealingKeys are new ones.
func sealingKeys() (*tokencache.Keys, error) {
	ring, err := tokencache.NewKeyRing(random(tokencache.KeySize))
	return &tokencache.Keys{Names: random(tokencache.KeySize), Seal: ring}, err
}

// sealedCache returns a cache with keys that keeps nothing in L1: it loads every
// token that is asked for.
func sealedCache(p tokencache.Provider) (*tokencache.Cache, error) {
	keys, err := sealingKeys()
	if err != nil {
		return nil, err
	}
	return tokencache.New(p, namespace, &tokencache.Options{Keys: keys, L1MaxAge: time.Nanosecond, ProviderTimeout: patience})
}
