package testserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	clusterNodes = 3
	clusterSlots = 16384
	migrateBatch = 100
	migrateLimit = 5 * time.Second
)

// RedisCluster is a private Redis Cluster of three primaries without replicas,
// made by [StartRedisCluster] or [NewRedisCluster]. Its methods are safe for
// concurrent use, but two moves of one slot at a time are the caller's mistake.
type RedisCluster struct {
	// Nodes are the servers. Each begins with a third of the slots, in this
	// order. The cluster gives up on one that is down after 1 to 2 seconds, and then
	// answers nothing until it is back.
	Nodes []*Redis
}

// StartRedisCluster starts a cluster whose nodes agree on who has which slot. The
// caller closes it.
func StartRedisCluster() (*RedisCluster, error) {
	nodes, err := startGroup(clusterNodes, nil, func(int) []string {
		return []string{"cluster-enabled yes", "cluster-node-timeout 1000"}
	})
	if err != nil {
		return nil, err
	}
	c := &RedisCluster{Nodes: nodes}
	ctx, cancel := context.WithTimeout(context.Background(), groupLimit)
	defer cancel()
	if err := errors.Join(c.form(ctx), c.WaitReady(ctx)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// NewRedisCluster is [StartRedisCluster] for a test, which closes the cluster
// when it ends.
func NewRedisCluster(t testing.TB) *RedisCluster {
	t.Helper()
	return forTest(t, StartRedisCluster)
}

// form gives each node its slots and an epoch of its own, and then introduces
// them to each other.
func (c *RedisCluster) form(ctx context.Context) error {
	for i, node := range c.Nodes {
		first, last := i*clusterSlots/clusterNodes, (i+1)*clusterSlots/clusterNodes-1
		err := node.admin(func(client *redis.Client) error {
			if err := client.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
				return err
			}
			return client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err()
		})
		if err != nil {
			return fmt.Errorf("testserver: give a node its slots: %w", err)
		}
	}
	for _, node := range c.Nodes { // each to each: rumours would take longer
		err := node.admin(func(client *redis.Client) error {
			for _, other := range c.Nodes {
				if other == node {
					continue
				}
				if err := client.ClusterMeet(ctx, loopback, strconv.Itoa(other.port)).Err(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("testserver: introduce the nodes: %w", err)
		}
	}
	return nil
}

// Addrs are the addresses of the nodes, in the order of Nodes.
func (c *RedisCluster) Addrs() []string { return addrsOf(c.Nodes) }

// Close closes all nodes. Calling it again does nothing.
func (c *RedisCluster) Close() error { return closeGroup(c.Nodes) }

// WaitReady waits, for at most 30 seconds, until every node answers and all agree
// on who has which slot, for example after a node has been started again.
func (c *RedisCluster) WaitReady(ctx context.Context) error {
	return await(ctx, "the cluster does not get ready", func(ctx context.Context) error {
		var agreed string
		for _, node := range c.Nodes {
			view, err := viewOf(ctx, node)
			if err != nil {
				return err
			}
			if agreed == "" {
				agreed = view
			}
			if view != agreed {
				return errors.New("the nodes do not agree")
			}
		}
		return nil
	})
}

// viewOf is what a node holds to be the owners of all slots. It fails if the node
// knows of no owner for some of them, or does not serve.
func viewOf(ctx context.Context, node *Redis) (string, error) {
	var view strings.Builder
	err := node.admin(func(client *redis.Client) error {
		info, err := client.ClusterInfo(ctx).Result()
		if err != nil {
			return err
		}
		if !strings.Contains(info, "cluster_state:ok") {
			return errors.New("a node does not say cluster_state:ok")
		}
		slots, err := slotsOf(ctx, client)
		if err != nil {
			return err
		}
		known := 0
		for _, r := range slots {
			known += r.End - r.Start + 1
			fmt.Fprintf(&view, "%d-%d %s\n", r.Start, r.End, r.Nodes[0].Addr)
		}
		if known != clusterSlots {
			return fmt.Errorf("a node knows of %d slots", known)
		}
		return nil
	})
	return view.String(), err
}

// slotsOf is CLUSTER SLOTS, in order. Every range has a node.
func slotsOf(ctx context.Context, client *redis.Client) ([]redis.ClusterSlot, error) {
	slots, err := client.ClusterSlots(ctx).Result() //nolint:staticcheck // deprecated, and still what go-redis asks
	if err != nil {
		return nil, err
	}
	for _, r := range slots {
		if len(r.Nodes) == 0 {
			return nil, errors.New("a slot without a node")
		}
	}
	return slots, nil
}

// Owner is the index in Nodes of the node that has a slot, as the first node
// that answers says.
func (c *RedisCluster) Owner(ctx context.Context, slot int) (int, error) {
	failed := errors.New("testserver: nobody has the slot")
	for _, node := range c.Nodes {
		owner := -1
		err := node.admin(func(client *redis.Client) error {
			slots, err := slotsOf(ctx, client)
			for _, r := range slots {
				if r.Start <= slot && slot <= r.End {
					owner = c.indexOf(r.Nodes[0].Addr)
				}
			}
			return err
		})
		if owner >= 0 {
			return owner, nil
		}
		failed = errors.Join(failed, err)
	}
	return 0, failed
}

func (c *RedisCluster) indexOf(addr string) int {
	for i, node := range c.Nodes {
		if node.Addr() == addr {
			return i
		}
	}
	return -1
}
