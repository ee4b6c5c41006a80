package testserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

func clusterClient(t *testing.T, c *testserver.RedisCluster) *redis.ClusterClient {
	t.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// One cluster for all: it takes two seconds to start.
func TestCluster(t *testing.T) {
	t.Parallel() // most of it is waiting
	c := testserver.NewRedisCluster(t)
	t.Run("serves every slot", func(t *testing.T) { testEverySlot(t, c) })
	t.Run("moves a slot", func(t *testing.T) { testMoveSlot(t, c) })
	t.Run("refuses mistakes", func(t *testing.T) { testMoveMistakes(t, c) })
	t.Run("restarts a node", func(t *testing.T) { testNodeRestarts(t, c) })
	check(t, c.Close())
	check(t, c.Close())
}

func testEverySlot(t *testing.T, c *testserver.RedisCluster) {
	client := clusterClient(t, c)
	for i := range 100 {
		check(t, client.Set(t.Context(), fmt.Sprintf("key-%d", i), i, 0).Err())
	}
	for i, node := range c.Nodes {
		n, err := redisOf(t, node).DBSize(t.Context()).Result()
		if err != nil || n == 0 || n == 100 {
			t.Errorf("node %d has %d keys of 100, %v", i, n, err)
		}
	}
}

// A node that is down takes its slots with it, and comes back with the rest of
// the cluster.
func testNodeRestarts(t *testing.T, c *testserver.RedisCluster) {
	check(t, c.Nodes[1].Kill())
	eventually(t, func() error {
		info, err := redisOf(t, c.Nodes[0]).ClusterInfo(t.Context()).Result()
		if err == nil && !strings.Contains(info, "cluster_state:fail") {
			return fmt.Errorf("the cluster does not notice: %s", info)
		}
		return err
	})
	check(t, c.Nodes[1].Start())
	check(t, c.WaitReady(t.Context()))
	client := clusterClient(t, c)
	for i := range 30 {
		check(t, client.Set(t.Context(), fmt.Sprint(i), i, 0).Err())
	}
}

func testMoveSlot(t *testing.T, c *testserver.RedisCluster) {
	client := clusterClient(t, c)
	const keys = 250 // more than go at a time
	for i := range keys {
		check(t, client.Set(t.Context(), fmt.Sprintf("{tag}%d", i), i, 0).Err())
	}
	slot, from := home(t, c, client, "{tag}")
	to := (from + 1) % len(c.Nodes)

	check(t, c.BeginMove(t.Context(), slot, from, to))
	r := dial(t, c.Nodes[from].Addr())
	r.expect("EXISTS {tag}0", ":1")
	r.expect("EXISTS {tag}new", fmt.Sprintf("-ASK %d %s", slot, c.Nodes[to].Addr()))

	// Somebody counts meanwhile, and loses nothing.
	check(t, client.Set(t.Context(), "{tag}count", 0, 0).Err())
	ctx, stop := context.WithCancel(background())
	counted := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if err := client.Incr(background(), "{tag}count").Err(); err != nil {
				t.Error(err)
			}
		}
		counted <- n
	}()
	err := c.MoveSlot(t.Context(), slot, from, to)
	stop()
	n := <-counted
	check(t, err)
	if got, err := client.Get(t.Context(), "{tag}count").Int(); got != n || err != nil {
		t.Errorf("counted %d, %v, want %d", got, err, n)
	}
	for i := range keys {
		if got, err := client.Get(t.Context(), fmt.Sprintf("{tag}%d", i)).Int(); got != i || err != nil {
			t.Fatalf("key %d is %d, %v", i, got, err)
		}
	}
	r.expect("EXISTS {tag}0", fmt.Sprintf("-MOVED %d %s", slot, c.Nodes[to].Addr()))
	if _, owner := home(t, c, client, "{tag}"); owner != to {
		t.Errorf("the slot is at %d, want %d", owner, to)
	}
	check(t, c.WaitReady(t.Context()))
	check(t, c.MoveSlot(t.Context(), slot, to, from))
	r.expect("EXISTS {tag}0", ":1")
}

func testMoveMistakes(t *testing.T, c *testserver.RedisCluster) {
	for _, m := range []struct{ slot, from, to int }{
		{-1, 0, 1}, {16384, 0, 1}, {0, 0, 0}, {0, -1, 1}, {0, 0, 3},
		{0, 1, 2}, // node 1 does not have it
	} {
		if err := c.MoveSlot(t.Context(), m.slot, m.from, m.to); err == nil {
			t.Errorf("%+v: no error", m)
		}
	}
	check(t, c.WaitReady(t.Context()))
	if _, err := c.Owner(t.Context(), 16384); err == nil {
		t.Error("a slot that does not exist has an owner")
	}
}

// home is the slot of a key, and the node that has it.
func home(t *testing.T, c *testserver.RedisCluster, client *redis.ClusterClient, key string) (slot, node int) {
	t.Helper()
	n, err := client.ClusterKeySlot(t.Context(), key).Result()
	check(t, err)
	node, err = c.Owner(t.Context(), int(n))
	check(t, err)
	return int(n), node
}

func redisOf(t *testing.T, s *testserver.Redis) *redis.Client {
	t.Helper()
	return client(t, s.Addr())
}
