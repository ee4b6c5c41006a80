package testserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// BeginMove begins the move of a slot between two nodes, given by their index in
// Nodes, and moves no key. From then on the old node answers for the keys that it
// still has, and sends clients to the new one for others (ASK).
// [RedisCluster.MoveSlot] completes the move.
func (c *RedisCluster) BeginMove(ctx context.Context, slot, from, to int) error {
	if err := c.checkMove(ctx, slot, from, to); err != nil {
		return err
	}
	source, err := idOf(ctx, c.Nodes[from])
	if err != nil {
		return err
	}
	target, err := idOf(ctx, c.Nodes[to])
	if err != nil {
		return err
	}
	if err := setSlot(ctx, c.Nodes[to], slot, "IMPORTING", source); err != nil {
		return err
	}
	return setSlot(ctx, c.Nodes[from], slot, "MIGRATING", target)
}

// MoveSlot moves a slot and its keys between two nodes, given by their index in
// Nodes, while clients use them: as redis-cli --cluster reshard does. When it
// returns, every node knows the new owner.
func (c *RedisCluster) MoveSlot(ctx context.Context, slot, from, to int) error {
	if err := c.BeginMove(ctx, slot, from, to); err != nil {
		return err
	}
	if err := moveKeys(ctx, slot, c.Nodes[from], c.Nodes[to]); err != nil {
		return err
	}
	owner, err := idOf(ctx, c.Nodes[to])
	if err != nil {
		return err
	}
	return c.assign(ctx, slot, to, owner)
}

// assign tells every node who has the slot now, the new owner first, or for a
// moment nobody would be. Two nodes that have just given each other slots may go on
// sending clients to one another, when what they heard before comes later: then
// they are told again, with a new epoch of the owner's.
func (c *RedisCluster) assign(ctx context.Context, slot, to int, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return until(ctx, func() error {
		for i := range c.Nodes {
			if err := setSlot(ctx, c.Nodes[(to+i)%len(c.Nodes)], slot, "NODE", owner); err != nil {
				return err
			}
		}
		for range 5 {
			if err := c.agree(ctx, slot, to); err == nil {
				return nil
			}
			time.Sleep(20 * time.Millisecond)
		}
		_ = c.Nodes[to].admin(func(client *redis.Client) error {
			return client.Do(ctx, "CLUSTER", "BUMPEPOCH").Err()
		})
		return c.agree(ctx, slot, to)
	})
}

// agree tells whether every node holds that node to have the slot.
func (c *RedisCluster) agree(ctx context.Context, slot, to int) error {
	for _, node := range c.Nodes {
		err := node.admin(func(client *redis.Client) error {
			ranges, err := slotsOf(ctx, client)
			if err != nil {
				return err
			}
			for _, r := range ranges {
				if r.Start <= slot && slot <= r.End && c.indexOf(r.Nodes[0].Addr) == to {
					return nil
				}
			}
			return fmt.Errorf("testserver: the nodes do not agree who has slot %d", slot)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *RedisCluster) checkMove(ctx context.Context, slot, from, to int) error {
	inRange := func(i int) bool { return 0 <= i && i < len(c.Nodes) }
	if slot < 0 || slot >= clusterSlots || !inRange(from) || !inRange(to) || from == to {
		return fmt.Errorf("testserver: cannot move slot %d from node %d to node %d", slot, from, to)
	}
	owner, err := c.Owner(ctx, slot)
	if err != nil {
		return err
	}
	if owner != from {
		return fmt.Errorf("testserver: slot %d is at node %d, not %d", slot, owner, from)
	}
	return nil
}

func idOf(ctx context.Context, node *Redis) (id string, err error) {
	err = node.admin(func(client *redis.Client) error {
		id, err = client.ClusterMyID(ctx).Result()
		return err
	})
	return id, err
}

func setSlot(ctx context.Context, node *Redis, slot int, state, id string) error {
	err := node.admin(func(client *redis.Client) error {
		return client.Do(ctx, "CLUSTER", "SETSLOT", slot, state, id).Err()
	})
	if err != nil {
		return fmt.Errorf("testserver: set a slot to %s: %w", state, err)
	}
	return nil
}

// moveKeys moves the keys that the source still has. There come no new ones: the
// source sends clients to the target for keys that it does not have.
func moveKeys(ctx context.Context, slot int, source, target *Redis) error {
	err := source.admin(func(client *redis.Client) error {
		for {
			keys, err := client.ClusterGetKeysInSlot(ctx, slot, migrateBatch).Result()
			if err != nil || len(keys) == 0 {
				return err
			}
			args := []any{"MIGRATE", loopback, target.port, "", 0, migrateLimit.Milliseconds(), "KEYS"}
			for _, key := range keys {
				args = append(args, key)
			}
			if err := client.Do(ctx, args...).Err(); err != nil {
				return errors.Join(errors.New("MIGRATE"), err)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("testserver: move the keys of a slot: %w", err)
	}
	return nil
}
