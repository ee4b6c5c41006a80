package redis_test

import (
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// patient waits longer for answers than an application should: these tests are
// about what is answered, and a busy machine answers late.
func patient(o *redis.UniversalOptions) {
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = 5*time.Second, 5*time.Second, 5*time.Second, 5*time.Second
}

// machines makes a harness whose providers have a client each, as machines do,
// and whose tests have a prefix each.
func machines(dial func(*testing.T) redis.UniversalClient) providertest.Harness {
	var prefixes sync.Map // of providers
	return providertest.Harness{
		New: func(t *testing.T) tokencache.Provider {
			prefix := tokencache.NewVersion().String() + ":"
			p := newProvider(t, dial(t), &redisprovider.Options{Prefix: prefix})
			prefixes.Store(p, prefix)
			return p
		},
		Peer: func(t *testing.T, first tokencache.Provider) tokencache.Provider {
			prefix, _ := prefixes.Load(first)
			return newProvider(t, dial(t), &redisprovider.Options{Prefix: prefix.(string)})
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, protocol := range map[string]int{"RESP2": 2, "RESP3": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NewRedis(t)
			providertest.Run(t, machines(func(t *testing.T) redis.UniversalClient {
				return connect(t, s.Addr(), patient, func(o *redis.UniversalOptions) { o.Protocol = protocol })
			}))
		})
	}
}

func TestConformanceOnCluster(t *testing.T) {
	t.Parallel()
	cluster := testserver.NewRedisCluster(t)
	providertest.Run(t, machines(func(t *testing.T) redis.UniversalClient {
		return connect(t, cluster.Addrs()[0], patient, func(o *redis.UniversalOptions) { o.IsClusterMode = true })
	}))
}

func TestConformanceBehindSentinel(t *testing.T) {
	t.Parallel()
	sentinel := testserver.NewRedisSentinel(t)
	providertest.Run(t, machines(func(t *testing.T) redis.UniversalClient {
		return connect(t, "", patient, func(o *redis.UniversalOptions) {
			o.Addrs, o.MasterName = sentinel.SentinelAddrs(), sentinel.MasterName
		})
	}))
}

// A client of a Cluster needs little more than the access list that a server
// wants.
func TestAccessListOfCluster(t *testing.T) {
	t.Parallel()
	cluster := testserver.NewRedisCluster(t)
	rules := append([]any{"ACL", "SETUSER", "app", "on", ">marker-app"}, accessList(t)...)
	for _, addr := range cluster.Addrs() {
		must(t, connect(t, addr).Do(t.Context(), append(rules, "+cluster|slots")...).Err())
	}
	must(t, everything(t, newProvider(t, connect(t, cluster.Addrs()[0], func(o *redis.UniversalOptions) {
		o.IsClusterMode, o.Username, o.Password = true, "app", "marker-app"
	}), nil)))
}
