package testserver_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

// One group for all: it takes seconds to start, and a failover does too.
func TestSentinel(t *testing.T) {
	t.Parallel() // most of it is waiting
	c := testserver.NewRedisSentinel(t)
	failover := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: c.MasterName, SentinelAddrs: c.SentinelAddrs()})
	defer func() { _ = failover.Close() }()
	check(t, failover.Ping(t.Context()).Err())

	primary, replica := nodes(t, c)
	t.Run("replication pauses", func(t *testing.T) { testPausedReplication(t, c) })
	t.Run("a failover loses writes", func(t *testing.T) { testLostWrites(t, c, failover) })
	if p, r := nodes(t, c); p != replica || r != primary {
		t.Errorf("%s and %s did not change places", primary.Addr(), replica.Addr())
	}
	t.Run("a paused primary is replaced", func(t *testing.T) { testPausedPrimary(t, c) })
	check(t, c.Close())
	check(t, c.Close())
}

func nodes(t *testing.T, c *testserver.RedisSentinel) (primary, replica *testserver.Redis) {
	t.Helper()
	primary, err := c.Primary(t.Context())
	check(t, err)
	replica, err = c.Replica(t.Context())
	check(t, err)
	return primary, replica
}

func testPausedReplication(t *testing.T, c *testserver.RedisSentinel) {
	primary, replica := nodes(t, c)
	p, r := redisOf(t, primary), redisOf(t, replica)
	check(t, p.Set(t.Context(), "before", 1, 0).Err())
	check(t, c.PauseReplication(t.Context()))
	check(t, r.Get(t.Context(), "before").Err())
	check(t, p.Set(t.Context(), "after", 1, 0).Err())
	if err := r.Get(t.Context(), "after").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("a write while paused: %v, want no such key", err)
	}
	check(t, c.ResumeReplication(t.Context()))
	check(t, r.Get(t.Context(), "after").Err())
	check(t, c.WaitReady(t.Context()))
}

func testLostWrites(t *testing.T, c *testserver.RedisSentinel, failover *redis.Client) {
	primary, replica := nodes(t, c)
	check(t, failover.Set(t.Context(), "kept", 1, 0).Err())
	check(t, c.PauseReplication(t.Context()))
	check(t, failover.Set(t.Context(), "lost", 1, 0).Err())
	check(t, primary.Kill())
	check(t, c.WaitPrimary(t.Context(), replica))
	eventually(t, func() error { return failover.Get(t.Context(), "kept").Err() })
	if err := failover.Get(t.Context(), "lost").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("an acknowledged write that was not replicated: %v, want no such key", err)
	}
	check(t, primary.Start())
	check(t, c.WaitReady(t.Context()))
	check(t, redisOf(t, primary).Get(t.Context(), "kept").Err())
}

func testPausedPrimary(t *testing.T, c *testserver.RedisSentinel) {
	primary, replica := nodes(t, c)
	check(t, c.Sentinels[0].Kill())
	check(t, primary.Pause())
	check(t, c.WaitPrimary(t.Context(), replica))
	check(t, redisOf(t, replica).Set(t.Context(), "new", 1, 0).Err())
	check(t, primary.Resume())
	check(t, c.Sentinels[0].Start())
	check(t, c.WaitReady(t.Context()))
	check(t, redisOf(t, primary).Get(t.Context(), "new").Err())
}
