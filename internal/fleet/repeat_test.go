package fleet

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A driver that sends a call again, because the reply was lost, undoes nothing
// that others have done in between.
func TestRepeatedCallUndoesNothing(t *testing.T) {
	s := startRedis(t)
	proxy := testserver.NewProxy(t, s.at().addr(t))
	slow, fast := redisOver(t, proxy.Addr()), redisOver(t, s.at().addr(t))
	for what, calls := range map[string]struct {
		first, second func(context.Context, tokencache.Name) error
		seen          func(tokencache.Record) tokencache.Version
	}{
		"mark": {
			first: func(ctx context.Context, n tokencache.Name) error {
				return slow.SetMark(ctx, n.Owner, tokencache.Version{1}, time.Now().Add(time.Hour))
			},
			second: func(ctx context.Context, n tokencache.Name) error {
				return fast.SetMark(ctx, n.Owner, tokencache.Version{2}, time.Now().Add(time.Hour))
			},
			seen: func(r tokencache.Record) tokencache.Version { return r.Mark },
		},
		"save without a condition": {
			first: func(ctx context.Context, n tokencache.Name) error {
				return slow.Save(ctx, n, tokencache.Record{Sealed: []byte("1"), Version: tokencache.Version{1}}, tokencache.Always())
			},
			second: func(ctx context.Context, n tokencache.Name) error {
				r := tokencache.Record{Sealed: []byte("2"), Version: tokencache.Version{2}}
				return fast.Save(ctx, n, r, tokencache.IfVersion(tokencache.Version{1}))
			},
			seen: func(r tokencache.Record) tokencache.Version { return r.Version },
		},
	} {
		t.Run(what, func(t *testing.T) {
			check(t, calls.first(t.Context(), newName())) // so that the server knows the script
			n := newName()
			stored := func() tokencache.Version {
				r, err := fast.Load(t.Context(), n)
				if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
					t.Fatal(err)
				}
				return calls.seen(r)
			}
			proxy.Set(testserver.Fault{DropReplies: true, Times: 1})
			first := make(chan error, 1)
			go func() { first <- calls.first(context.WithoutCancel(t.Context()), n) }()
			eventually(t, func() error {
				if stored() != (tokencache.Version{1}) {
					return errors.New("the first call does not arrive")
				}
				return nil
			})
			check(t, calls.second(t.Context(), n))
			err := <-first // of whatever kind: the caller finds out
			if got := stored(); got != (tokencache.Version{2}) {
				t.Errorf("what came second was undone by the first call, which returned %v", err)
			}
		})
	}
}

// redisOver is a provider whose driver takes its time before it repeats a call.
func redisOver(t *testing.T, addr string) *redisprovider.Provider {
	t.Helper()
	o := redisprovider.RecommendedOptions()
	o.Addrs = []string{addr}
	o.MinRetryBackoff, o.MaxRetryBackoff = 300*time.Millisecond, 300*time.Millisecond
	client := redis.NewUniversalClient(o)
	p, err := redisprovider.New(client, &redisprovider.Options{Log: quiet()})
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := background()
		defer cancel()
		if err := errors.Join(p.Close(ctx), client.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}
