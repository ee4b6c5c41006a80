package failures_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestRedis(t *testing.T) {
	recommended, defaults := redisprovider.RecommendedOptions, func() *redis.UniversalOptions { return &redis.UniversalOptions{} }
	const brief, long = 3 * time.Second, 8 * time.Second
	slow := func(d time.Duration) func(*testing.T) *site { return proxied(recommended, testserver.Fault{Delay: d}) }
	testFailures(t, 4, []failure{
		{name: "none, for comparison", start: proxied(recommended, testserver.Fault{}), lasts: brief},
		{name: "hung (SIGSTOP)", start: hung(recommended), lasts: long},
		{name: "cut", start: proxied(recommended, testserver.Fault{Cut: true}), lasts: long},
		{name: "slow, 100 ms each way", start: slow(100 * time.Millisecond), lasts: brief},
		{name: "slow, 400 ms each way", start: slow(400 * time.Millisecond), lasts: brief},
		{name: "connections half open", start: proxied(pooled(recommended), testserver.Fault{HalfOpen: true})},
		{name: "all replies lost", start: proxied(recommended, testserver.Fault{DropReplies: true}), lasts: brief},
		{name: "memory full", start: full, lasts: brief},
		{name: "read-only replica", start: readOnly, lasts: brief},
		{name: "killed, append-only file", start: killed("appendonly yes", "appendfsync everysec"), lasts: brief},
		{name: "killed, restarted empty", start: killed(), lasts: brief, empties: true},
		{name: "failover (Sentinel)", start: failover},
		{name: "failover, writes lost", start: forgetful, lasts: brief},
		{name: "slots moved (Cluster)", start: resharded},
		{name: "hung, go-redis's defaults", start: hung(defaults), lasts: long},
		{name: "cut, go-redis's defaults", start: proxied(defaults, testserver.Fault{Cut: true}), lasts: long},
		{name: "half open, go-redis's defaults", start: proxied(pooled(defaults), testserver.Fault{HalfOpen: true})},
	})
}

func TestRedisReplyLost(t *testing.T) {
	testReplyLost(t, func(t *testing.T) *line {
		server := testserver.NewRedis(t)
		return &line{
			addr:    server.Addr(),
			connect: connect(redisprovider.RecommendedOptions, to(server.Addr())),
			through: func(t *testing.T, addr string, dial dialer) tokencache.Provider {
				return connect(redisprovider.RecommendedOptions, func(o *redis.UniversalOptions) {
					o.Addrs = []string{addr}
					o.PoolSize = 1 // so that each connection which is lost is dialled again
					o.Dialer = dial
				})(t)
			},
		}
	})
}

type optionsFunc func() *redis.UniversalOptions

// pooled has a pool full of connections that are idle, as a machine has after a
// busy moment.
func pooled(options optionsFunc) optionsFunc {
	return func() *redis.UniversalOptions {
		o := options()
		o.PoolSize = pooledConns
		return o
	}
}

const pooledConns = 100

// fill makes as many connections as a pooled client may have.
func fill(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	single, ok := client.(*redis.Client)
	if !ok || single.Options().PoolSize != pooledConns {
		return
	}
	var all []*redis.Conn
	for range pooledConns {
		all = append(all, single.Conn())
		if err := all[len(all)-1].Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, conn := range all { // at the end, or one would do
		_ = conn.Close()
	}
}

// connect makes providers whose clients have the options, as completed.
func connect(options optionsFunc, complete func(*redis.UniversalOptions)) func(*testing.T) tokencache.Provider {
	return func(t *testing.T) tokencache.Provider {
		t.Helper()
		o := options()
		complete(o)
		client := redis.NewUniversalClient(o)
		t.Cleanup(func() { _ = client.Close() })
		fill(t, client)
		p, err := redisprovider.New(client, &redisprovider.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(context.Background()); err != nil {
				t.Error("Close:", err)
			}
		})
		return p
	}
}

func to(addrs ...string) func(*redis.UniversalOptions) {
	return func(o *redis.UniversalOptions) { o.Addrs = addrs }
}

// proxied is a server behind a proxy that has the fault.
func proxied(options optionsFunc, f testserver.Fault) func(*testing.T) *site {
	return func(t *testing.T) *site {
		proxy := testserver.NewProxy(t, testserver.NewRedis(t).Addr())
		return &site{
			connect: connect(options, to(proxy.Addr())),
			fail:    func(context.Context) error { proxy.Set(f); return nil },
			heal:    func(context.Context) error { proxy.Heal(); return nil },
		}
	}
}

func hung(options optionsFunc) func(*testing.T) *site {
	return func(t *testing.T) *site {
		server := testserver.NewRedis(t)
		return &site{
			connect: connect(options, to(server.Addr())),
			fail:    func(context.Context) error { return server.Pause() },
			heal:    func(context.Context) error { return server.Resume() },
		}
	}
}

// killed is a server that is killed, and started again with what its
// configuration has had it save.
func killed(config ...string) func(*testing.T) *site {
	return func(t *testing.T) *site {
		server := testserver.NewRedis(t, config...)
		return &site{
			connect: connect(redisprovider.RecommendedOptions, to(server.Addr())),
			fail:    func(context.Context) error { return server.Kill() },
			heal:    func(context.Context) error { return server.Start() },
		}
	}
}

// admin is a client of the test's own.
func admin(t *testing.T, addr string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// readOnly is a server that believes to be the replica of nobody.
func readOnly(t *testing.T) *site {
	server := testserver.NewRedis(t)
	client := admin(t, server.Addr())
	return &site{
		connect: connect(redisprovider.RecommendedOptions, to(server.Addr())),
		fail:    func(ctx context.Context) error { return client.ReplicaOf(ctx, "127.0.0.1", "1").Err() },
		heal:    func(ctx context.Context) error { return client.ReplicaOf(ctx, "NO", "ONE").Err() },
	}
}

// full is a server whose memory another client fills, and keeps full.
func full(t *testing.T) *site {
	server := testserver.NewRedis(t, "maxmemory 8mb", "maxmemory-policy noeviction")
	client := admin(t, server.Addr())
	var filling sync.WaitGroup
	stop := func() {}
	t.Cleanup(func() { stop(); filling.Wait() })
	keys := 0
	stuff := func(ctx context.Context, size int) error {
		for {
			keys++
			if err := client.Set(ctx, fmt.Sprint("other:", keys), strings.Repeat("x", size), 0).Err(); err != nil {
				return err
			}
		}
	}
	return &site{
		connect: connect(redisprovider.RecommendedOptions, to(server.Addr())),
		fail: func(ctx context.Context) error {
			for _, size := range []int{64 << 10, 1 << 10, 10} {
				if err := stuff(ctx, size); !redis.HasErrorPrefix(err, "OOM") {
					return err
				}
			}
			ctx, stop = context.WithCancel(ctx)
			filling.Go(func() {
				for ctx.Err() == nil {
					_ = stuff(ctx, 10)
					wait(ctx, 2*time.Millisecond)
				}
			})
			return nil
		},
		heal: func(ctx context.Context) error {
			stop()
			filling.Wait()
			return client.Eval(ctx, `for i = 1, ARGV[1] do redis.call('DEL', 'other:' .. i) end return 0`, nil, keys).Err()
		},
	}
}

// failover is a primary that is killed, and whose replica takes its place.
func failover(t *testing.T) *site {
	s, _ := sentinel(t)
	return s
}

func sentinel(t *testing.T) (*site, *testserver.RedisSentinel) {
	group := testserver.NewRedisSentinel(t)
	var primary, replica *testserver.Redis
	return &site{
		connect: connect(redisprovider.RecommendedOptions, func(o *redis.UniversalOptions) {
			o.Addrs, o.MasterName = group.SentinelAddrs(), group.MasterName
		}),
		fail: func(ctx context.Context) (err error) {
			if primary, err = group.Primary(ctx); err != nil {
				return err
			}
			if replica, err = group.Replica(ctx); err != nil {
				return err
			}
			return primary.Kill()
		},
		heal: func(ctx context.Context) error { return group.WaitPrimary(ctx, replica) },
	}, group
}

// forgetful is a failover to a replica that has nothing of what was written, and
// acknowledged, since the failure began.
func forgetful(t *testing.T) *site {
	s, group := sentinel(t)
	kill, wait := s.fail, s.heal
	s.fail = group.PauseReplication
	s.heal = func(ctx context.Context) error { return errors.Join(kill(ctx), wait(ctx)) }
	return s
}
