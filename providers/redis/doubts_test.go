package redis_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A server that hangs for longer than a lease lasts grants it when it wakes up:
// nobody has waited for it, and it is given back all the same.
func TestLeaseGrantedLate(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	p, other := onServer(t, s.Addr()), onServer(t, s.Addr())
	n, ttl := newName(), 4*time.Second
	_, err := p.Acquire(t.Context(), newName(), ttl) // the server knows the script from now on
	must(t, err)
	must(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	if _, err := p.Acquire(ctx, n, ttl); err == nil {
		t.Fatal("the server hangs, and has granted a lease")
	}
	time.Sleep(ttl + time.Second)
	must(t, s.Resume())
	must(t, other.Ping(t.Context()))
	eventually(t, ttl/2, "the lease was given back", func() bool {
		_, err := other.Acquire(t.Context(), n, ttl)
		return err == nil
	})
}

// A node of a Cluster that stays away does not keep leases of the others.
func TestLeaseGrantedLateByCluster(t *testing.T) {
	t.Parallel()
	cluster := testserver.NewRedisCluster(t)
	for _, node := range cluster.Nodes { // to serve what they have while others are away
		c := connect(t, node.Addr())
		must(t, c.ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err())
		must(t, c.ConfigSet(t.Context(), "cluster-node-timeout", "60000").Err())
	}
	away, late := cluster.Nodes[0], cluster.Nodes[1]
	client := connect(t, away.Addr(), func(o *redis.UniversalOptions) { o.IsClusterMode = true }).(*redis.ClusterClient)
	p, other := newProvider(t, client, nil), onServer(t, late.Addr())
	nameAt := func(node *testserver.Redis) tokencache.Name {
		for {
			n := newName()
			at, err := client.MasterForKey(t.Context(), "{"+n.Owner+"}")
			must(t, err)
			if at.Options().Addr != node.Addr() {
				continue
			}
			_, err = p.Acquire(t.Context(), n, time.Millisecond) // the server knows the script from now on
			must(t, err)
			return n
		}
	}
	const ttl = 8 * time.Second
	names := []tokencache.Name{nameAt(away), nameAt(late)}
	must(t, errors.Join(away.Pause(), late.Pause()))
	defer func() { _ = away.Resume() }()
	for _, n := range names {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		_, err := p.Acquire(ctx, n, ttl)
		cancel()
		if err == nil {
			t.Fatal("the servers hang, and have granted a lease")
		}
	}
	must(t, late.Resume())
	eventually(t, ttl/2, "the lease was given back", func() bool {
		_, err := other.Acquire(t.Context(), names[1], ttl)
		return err == nil
	})
}
