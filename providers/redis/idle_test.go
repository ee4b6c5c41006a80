package redis_test

import (
	"context"
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
