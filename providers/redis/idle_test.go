package redis_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

// When all connections of a pool have gone silent, one call without an answer is
// enough: nobody has to find out about each of the others.
func TestSilentConnections(t *testing.T) {
	const conns = 60
	for name, options := range map[string][]func(*redis.UniversalOptions){
		"recommended": nil,
		"defaults": {func(o *redis.UniversalOptions) { // 5 s for an answer, whatever the context says
			*o = redis.UniversalOptions{Addrs: o.Addrs}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := testserver.NewProxy(t, testserver.NewRedis(t).Addr())
			client := connect(t, proxy.Addr(), append(options, func(o *redis.UniversalOptions) { o.PoolSize = conns })...)
			fillPool(t, client.(*redis.Client), conns)
			p := newProvider(t, client, nil)
			proxy.Set(testserver.Fault{HalfOpen: true})
			began, failed := time.Now(), 0
			ping := func() bool { // as a Cache does it
				ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
				defer cancel()
				answer := make(chan error, 1)
				go func() { answer <- p.Ping(ctx) }()
				select {
				case err := <-answer:
					return err == nil
				case <-ctx.Done():
					return false
				}
			}
			for ; !ping(); failed++ {
				if time.Since(began) > 5*time.Second {
					t.Fatalf("%d calls have failed, and the connections are still there", failed)
				}
			}
			for range conns {
				if !ping() {
					failed++
				}
			}
			if failed > 8 { // a busy machine is granted some
				t.Errorf("%d calls have failed", failed)
			}
		})
	}
}

// fillPool makes that many connections, which are then idle.
func fillPool(t *testing.T, client *redis.Client, conns int) {
	t.Helper()
	var all []*redis.Conn
	for range conns {
		all = append(all, client.Conn())
		must(t, all[len(all)-1].Ping(t.Context()).Err())
	}
	for _, conn := range all { // at the end, or one would do
		must(t, conn.Close())
	}
}

// A server that hangs gets no new connections from the check.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	const conns = 30
	s := testserver.NewRedis(t)
	client := connect(t, s.Addr(), func(o *redis.UniversalOptions) { o.PoolSize, o.MaxRetries = 2*conns, 3 })
	var dials dials
	client.(*redis.Client).AddHook(&dials)
	fillPool(t, client.(*redis.Client), conns)
	p := newProvider(t, client, nil)
	must(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	before := dials.n.Load()
	if p.Ping(ctx) == nil {
		t.Fatal("a server that hangs answers")
	}
	eventually(t, 5*time.Second, "the idle connections were checked", func() bool {
		return client.PoolStats().TotalConns == 0
	})
	time.Sleep(500 * time.Millisecond)
	if made := dials.n.Load() - before; made > 5 {
		t.Errorf("%d new connections", made)
	}
}

// dials counts connections.
type dials struct {
	door
	n atomic.Int64
}

func (d *dials) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d.n.Add(1)
		return next(ctx, network, addr)
	}
}
