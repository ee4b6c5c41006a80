package redis_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// When a primary of a Cluster is gone and its replica has taken over, calls find
// it at once, and so does Watch. The client by itself goes on asking the dead one
// for up to a minute.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	t.Cleanup(func() { time.Sleep(1500 * time.Millisecond) }) // the driver goes on dialing for a second after Close
	ctx, cluster := t.Context(), testserver.NewRedisCluster(t)
	client := connect(t, cluster.Addrs()[0], func(o *redis.UniversalOptions) { o.IsClusterMode = true }).(*redis.ClusterClient)
	p, n := newProvider(t, client, nil), newName()
	ownerOf := func(key string) *testserver.Redis {
		at, err := client.MasterForKey(ctx, key)
		must(t, err)
		for _, node := range cluster.Nodes {
			if node.Addr() == at.Options().Addr {
				return node
			}
		}
		t.Fatal("a node of no cluster")
		return nil
	}
	primary := ownerOf("coatcheck:changes")
	for ownerOf("{"+n.Owner+"}") != primary {
		n = newName()
	}
	replica := addReplica(t, cluster, primary)
	must(t, p.Save(ctx, n, record("kept"), tokencache.Condition{}))
	stored := connect(t, primary.Addr()).DBSize(ctx).Val()
	eventually(t, 20*time.Second, "the replica has the record", func() bool { return replica.DBSize(ctx).Val() == stored })
	changes := watch(t, p)
	next(t, changes, 5*time.Second, true)

	must(t, primary.Kill())
	eventually(t, 20*time.Second, "the replica has taken over", func() bool {
		_, _ = p.Load(ctx, n)
		return strings.Contains(replica.ClusterInfo(ctx).Val(), "cluster_state:ok") &&
			strings.Contains(replica.Info(ctx, "replication").Val(), "role:master")
	})
	eventually(t, 5*time.Second, "its records are found", func() bool {
		_, err := p.Load(ctx, n)
		return err == nil
	})
	next(t, changes, 5*time.Second, true)
}

// addReplica gives a node of the cluster a replica, which all nodes know.
func addReplica(t *testing.T, cluster *testserver.RedisCluster, primary *testserver.Redis) redis.UniversalClient {
	t.Helper()
	ctx := t.Context()
	s := testserver.NewRedis(t, "cluster-enabled yes", "cluster-node-timeout 1000", "cluster-replica-validity-factor 0")
	replica := connect(t, s.Addr())
	host, port, err := net.SplitHostPort(primary.Addr())
	must(t, err)
	must(t, replica.ClusterMeet(ctx, host, port).Err())
	id, err := connect(t, primary.Addr()).Do(ctx, "CLUSTER", "MYID").Text()
	must(t, err)
	eventually(t, 20*time.Second, "the replica knows its primary", func() bool {
		return replica.Do(ctx, "CLUSTER", "REPLICATE", id).Err() == nil
	})
	eventually(t, 20*time.Second, "the replica has caught up", func() bool {
		return strings.Contains(replica.Info(ctx, "replication").Val(), "master_link_status:up")
	})
	for _, node := range cluster.Nodes {
		c := connect(t, node.Addr())
		eventually(t, 20*time.Second, "the replica is known", func() bool {
			return strings.Contains(c.ClusterNodes(ctx).Val(), "slave "+id)
		})
	}
	return replica
}
