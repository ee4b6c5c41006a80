package redis_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// What a Cache promises, on two machines.
func TestCache(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	providertest.RunCache(t, machines(func(t *testing.T) redis.UniversalClient {
		return connect(t, s.Addr(), patient, func(o *redis.UniversalOptions) { o.Protocol = 3 })
	}))
}

func TestCacheOnCluster(t *testing.T) {
	t.Parallel()
	cluster := testserver.NewRedisCluster(t)
	providertest.RunCache(t, machines(func(t *testing.T) redis.UniversalClient {
		return connect(t, cluster.Addrs()[0], patient, func(o *redis.UniversalOptions) { o.IsClusterMode = true })
	}))
}

// And while the server is killed and started again, over and over.
func TestCacheWhileKilled(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t, "appendonly yes", "appendfsync always")
	stop := kill(t, s)
	h := machines(func(t *testing.T) redis.UniversalClient { return connect(t, s.Addr(), patient) })
	h.Expiry, h.Outages = 600*time.Millisecond, true
	t.Run("Suite", func(t *testing.T) { providertest.RunCache(t, h) })
	if times := stop(); times < 3 {
		t.Errorf("the server was killed %d times only", times)
	}
}
