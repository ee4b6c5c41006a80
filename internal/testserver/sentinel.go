package testserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	sentinelNodes  = 2
	sentinelQuorum = 2
	sentinels      = 3
)

// RedisSentinel is a private primary with one replica, and three sentinels that
// watch them, made by [StartRedisSentinel] or [NewRedisSentinel]. Its methods are
// safe for concurrent use.
//
// A primary that is killed or paused is replaced by the replica, if that is up:
// mostly within 3 seconds, the first of which is how long the sentinels wait
// before they hold it to be down. When it is back, it becomes the replica.
type RedisSentinel struct {
	// MasterName is what the sentinels call the primary.
	MasterName string
	// Nodes are the servers with the data; the first begins as the primary.
	Nodes []*Redis
	// Sentinels are the servers that watch. Two must be up for a failover.
	Sentinels []*Redis
}

// StartRedisSentinel starts all of it, and waits until the replica has caught up
// and the sentinels are ready for a failover. The caller closes it.
func StartRedisSentinel() (*RedisSentinel, error) {
	c := &RedisSentinel{MasterName: "coatcheck"}
	ctx, cancel := context.WithTimeout(context.Background(), groupLimit)
	defer cancel()
	err := c.startNodes()
	if err == nil {
		err = c.startSentinels()
	}
	if err == nil {
		err = c.WaitReady(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// NewRedisSentinel is [StartRedisSentinel] for a test, which closes everything
// when it ends.
func NewRedisSentinel(t testing.TB) *RedisSentinel {
	t.Helper()
	return forTest(t, StartRedisSentinel)
}

func (c *RedisSentinel) startNodes() error {
	for i := range sentinelNodes {
		config := []string{"repl-diskless-sync-delay 0"}
		if i > 0 {
			config = append(config, fmt.Sprintf("replicaof %s %d", loopback, c.Nodes[0].port))
		}
		node, err := startRedis(nil, config)
		if err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, node)
	}
	return nil
}

func (c *RedisSentinel) startSentinels() error {
	started, err := startGroup(sentinels, []string{"--sentinel"}, func(int) []string {
		return []string{
			fmt.Sprintf("sentinel monitor %s %s %d %d", c.MasterName, loopback, c.Nodes[0].port, sentinelQuorum),
			fmt.Sprintf("sentinel down-after-milliseconds %s 1000", c.MasterName),
			fmt.Sprintf("sentinel failover-timeout %s 4000", c.MasterName),
		}
	})
	c.Sentinels = started
	return err
}

// SentinelAddrs are the addresses of the sentinels.
func (c *RedisSentinel) SentinelAddrs() []string { return addrsOf(c.Sentinels) }

// Close closes all servers. Calling it again does nothing.
func (c *RedisSentinel) Close() error {
	return errors.Join(closeGroup(c.Sentinels), closeGroup(c.Nodes))
}

// WaitReady waits, for at most 30 seconds, until all servers are up, the replica
// has what the primary has, and every sentinel knows of all others and finds the
// replica fit to replace the primary.
func (c *RedisSentinel) WaitReady(ctx context.Context) error {
	c.hurry(ctx)
	return await(ctx, "the servers do not get ready for a failover", func(ctx context.Context) error {
		primary, err := c.Primary(ctx)
		if err != nil {
			return err
		}
		if err := caughtUp(ctx, primary, c.other(primary)); err != nil {
			return err
		}
		for _, s := range c.Sentinels {
			if err := c.ask(s, func(client *redis.SentinelClient) error { return c.fit(ctx, client, primary) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// hurry has the sentinels ask more often than every 10 seconds what the nodes are
// doing. They forget it when they end, and do without it before Redis 7.
func (c *RedisSentinel) hurry(ctx context.Context) {
	for _, s := range c.Sentinels {
		_ = s.admin(func(client *redis.Client) error {
			return client.Do(ctx, "SENTINEL", "DEBUG", "info-period", 500, "publish-period", 500).Err()
		})
	}
}

// WaitPrimary waits, for at most 30 seconds, until a node is the primary and all
// sentinels that answer say so.
func (c *RedisSentinel) WaitPrimary(ctx context.Context, node *Redis) error {
	return await(ctx, "the node does not become the primary", func(ctx context.Context) error {
		r, err := roleOf(ctx, node)
		if err != nil {
			return err
		}
		if !r.primary {
			return errors.New("the node is a replica")
		}
		answers := 0
		for _, s := range c.Sentinels {
			port, _, err := c.master(ctx, s)
			if err == nil && port != node.port {
				return errors.New("a sentinel names another node")
			}
			if err == nil {
				answers++
			}
		}
		if answers == 0 {
			return errors.New("no sentinel answers")
		}
		return nil
	})
}

// Primary is the node that the sentinels hold to be the primary. If they differ,
// the one with the newest configuration is right. The node may be down.
func (c *RedisSentinel) Primary(ctx context.Context) (*Redis, error) {
	newest, primary := -1, (*Redis)(nil)
	failed := errors.New("testserver: no sentinel names a primary")
	for _, s := range c.Sentinels {
		port, epoch, err := c.master(ctx, s)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		for _, node := range c.Nodes {
			if node.port == port && epoch > newest {
				newest, primary = epoch, node
			}
		}
	}
	if primary == nil {
		return nil, failed
	}
	return primary, nil
}

// Replica is the node that is not the primary. It may be down.
func (c *RedisSentinel) Replica(ctx context.Context) (*Redis, error) {
	primary, err := c.Primary(ctx)
	if err != nil {
		return nil, err
	}
	return c.other(primary), nil
}

func (c *RedisSentinel) other(node *Redis) *Redis {
	if node == c.Nodes[0] {
		return c.Nodes[1]
	}
	return c.Nodes[0]
}

// ask calls f with a client of a sentinel.
func (c *RedisSentinel) ask(s *Redis, f func(*redis.SentinelClient) error) error {
	if !s.up() {
		return errDown
	}
	client := redis.NewSentinelClient(s.options())
	err := f(client)
	return errors.Join(err, client.Close())
}

// master is the port of the primary in a sentinel's opinion, and how new that
// opinion is.
func (c *RedisSentinel) master(ctx context.Context, s *Redis) (port, epoch int, err error) {
	err = c.ask(s, func(client *redis.SentinelClient) error {
		master, err := client.Master(ctx, c.MasterName).Result()
		if err != nil {
			return err
		}
		if port, err = strconv.Atoi(master["port"]); err != nil {
			return err
		}
		epoch, err = strconv.Atoi(master["config-epoch"])
		return err
	})
	return port, epoch, err
}

// fit tells whether a sentinel could begin a failover.
func (c *RedisSentinel) fit(ctx context.Context, client *redis.SentinelClient, primary *Redis) error {
	master, err := client.Master(ctx, c.MasterName).Result()
	if err != nil {
		return err
	}
	if master["flags"] != "master" || master["port"] != strconv.Itoa(primary.port) {
		return fmt.Errorf("a sentinel sees the primary at port %s as %s", master["port"], master["flags"])
	}
	if n := master["num-other-sentinels"]; n != strconv.Itoa(sentinels-1) {
		return fmt.Errorf("a sentinel knows of %s others", n)
	}
	if err := client.CkQuorum(ctx, c.MasterName).Err(); err != nil {
		return err
	}
	replicas, err := client.Replicas(ctx, c.MasterName).Result()
	if err != nil {
		return err
	}
	if len(replicas) != 1 {
		return fmt.Errorf("a sentinel knows of %d replicas", len(replicas))
	}
	r := replicas[0]
	if r["flags"] != "slave" || r["master-link-status"] != "ok" || r["master-port"] != strconv.Itoa(primary.port) {
		return fmt.Errorf("a sentinel sees the replica as %s, its link as %s", r["flags"], r["master-link-status"])
	}
	return nil
}
