package testserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// PauseReplication has the primary refuse its replica, and returns when the
// replica has everything that was written before the call and gets nothing any
// more. What is written from then on is acknowledged by the primary, and lost if
// the replica takes its place:
//
//	PauseReplication, write, primary.Kill, WaitPrimary(replica)
//
// The sentinels do not promote a replica that has been cut off for long: kill the
// primary within 8 seconds. A primary that was started again after Kill no longer
// refuses; one that was only paused does until [RedisSentinel.ResumeReplication].
func (c *RedisSentinel) PauseReplication(ctx context.Context) error {
	primary, err := c.Primary(ctx)
	if err != nil {
		return err
	}
	replica := c.other(primary)
	err = await(ctx, "the replica does not catch up", func(ctx context.Context) error {
		return caughtUp(ctx, primary, replica)
	})
	if err != nil {
		return err
	}
	// The replica tries again every second. A wrong address or password on its
	// side would also do, but Sentinel corrects the one and stores the other.
	err = primary.admin(func(client *redis.Client) error {
		if err := client.Do(ctx, "ACL", "SETUSER", "default", "-psync", "-sync").Err(); err != nil {
			return err
		}
		return client.ClientKillByFilter(ctx, "TYPE", "replica").Err()
	})
	if err != nil {
		return fmt.Errorf("testserver: refuse the replica: %w", err)
	}
	return await(ctx, "the replica does not notice", func(ctx context.Context) error {
		r, err := roleOf(ctx, replica)
		if err == nil && r.connected {
			err = errors.New("the replica is connected")
		}
		return err
	})
}

// ResumeReplication undoes [RedisSentinel.PauseReplication] on every node that
// is up, and returns when the replica has caught up. SYNC stays refused: a replica
// that tries it after a PSYNC which was refused a moment ago would follow without
// ever telling how far it is.
func (c *RedisSentinel) ResumeReplication(ctx context.Context) error {
	for _, node := range c.Nodes {
		err := node.admin(func(client *redis.Client) error {
			return client.Do(ctx, "ACL", "SETUSER", "default", "+psync").Err()
		})
		if err != nil {
			return fmt.Errorf("testserver: admit the replica: %w", err)
		}
	}
	return await(ctx, "the replica does not catch up", func(ctx context.Context) error {
		primary, err := c.Primary(ctx)
		if err != nil {
			return err
		}
		return caughtUp(ctx, primary, c.other(primary))
	})
}

// role is what a node says of its part in replication.
type role struct {
	primary   bool
	connected bool  // a replica's link to its primary
	offset    int64 // how much of the primary's stream it has
}

func roleOf(ctx context.Context, node *Redis) (r role, err error) {
	var fields []any
	err = node.admin(func(client *redis.Client) error {
		fields, err = client.Do(ctx, "ROLE").Slice()
		return err
	})
	if err != nil {
		return role{}, err
	}
	if len(fields) == 3 && fields[0] == "master" {
		r.primary = true
		r.offset, _ = fields[1].(int64)
		return r, nil
	}
	if len(fields) == 5 && fields[0] == "slave" {
		r.connected = fields[3] == "connected"
		r.offset, _ = fields[4].(int64)
		return r, nil
	}
	return role{}, fmt.Errorf("testserver: ROLE has %d fields that mean nothing", len(fields))
}

// caughtUp tells whether a replica has what its primary had just now.
func caughtUp(ctx context.Context, primary, replica *Redis) error {
	p, err := roleOf(ctx, primary)
	if err != nil {
		return err
	}
	r, err := roleOf(ctx, replica)
	switch {
	case err != nil:
		return err
	case !p.primary || r.primary:
		return errors.New("the nodes are about to change places")
	case !r.connected || r.offset < p.offset:
		return fmt.Errorf("the replica is at %d of %d, connected: %t", r.offset, p.offset, r.connected)
	}
	return nil
}
