package failures_test

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
)

// resharded is a cluster whose nodes give every slot that has users in it to the
// last of them, one after the other, while requests run. The failure lasts until
// all are moved. One node gets them all because Redis can lose a slot between two
// nodes that have just given slots to each other and have not heard of the other's
// new configuration.
func resharded(t *testing.T) *site {
	cluster := testserver.NewRedisCluster(t)
	nodes := make([]*redis.Client, len(cluster.Nodes))
	for i, addr := range cluster.Addrs() {
		nodes[i] = admin(t, addr)
	}
	return &site{
		connect: connect(redisprovider.RecommendedOptions, func(o *redis.UniversalOptions) {
			o.Addrs, o.IsClusterMode = cluster.Addrs(), true
		}),
		fail: func(context.Context) error { return nil },
		heal: func(ctx context.Context) error {
			slots := map[int]int{} // the node that has it
			for i, node := range nodes {
				if err := slotsOf(ctx, node, i, slots); err != nil {
					return err
				}
			}
			if len(slots) == 0 {
				return errors.New("no slot has users")
			}
			last := len(nodes) - 1
			for slot, from := range slots {
				if from == last {
					continue
				}
				if err := cluster.MoveSlot(ctx, slot, from, last); err != nil {
					return err
				}
			}
			return cluster.WaitReady(ctx)
		},
	}
}

// slotsOf notes the slots in which the node has keys.
func slotsOf(ctx context.Context, node *redis.Client, i int, slots map[int]int) error {
	keys := node.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		slot, err := node.ClusterKeySlot(ctx, keys.Val()).Result()
		if err != nil {
			return err
		}
		slots[int(slot)] = i
	}
	return keys.Err()
}
