package main

import (
	"context"
	"errors"
	"time"

	msalcache "github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/redis/go-redis/v9"
)

// measureRedisPeer compares tokens from Redis with MSAL over the same server. It is
// given every advantage there too: what it stores is not encrypted, and read with one
// GET for each token.
func measureRedisPeer(b *redisBackend, rounds int) ([]figure, error) {
	cache, err := sealedCache(b.provider)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cache.Close(context.Background()) }()
	keys, err := signIn(cache)
	if err != nil {
		return nil, err
	}
	peer, err := newPeerOn(&redisBlobs{b.client}, activeUsers, true)
	if err != nil {
		return nil, err
	}
	f, err := ratio("MSAL Go over Redis, a fresh client per call, to a token from Redis", atLeast(1.5), rounds,
		side{"token", tokens(cache, keys, fromProvider)}, side{"MSAL", peer.silent})
	if err != nil {
		return nil, err
	}
	return []figure{f}, peer.askedOnce()
}

// redisBlobs is a store in Redis.
type redisBlobs struct{ client redis.UniversalClient }

// Replace gives MSAL what is stored, or the empty cache.
func (r *redisBlobs) Replace(ctx context.Context, c msalcache.Unmarshaler, h msalcache.ReplaceHints) error {
	data, err := r.client.Get(ctx, "msal:"+h.PartitionKey).Bytes()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	return c.Unmarshal(data)
}

// Export stores what MSAL has.
func (r *redisBlobs) Export(ctx context.Context, c msalcache.Marshaler, h msalcache.ExportHints) error {
	data, err := c.Marshal()
	if err != nil {
		return err
	}
	return r.client.Set(ctx, "msal:"+h.PartitionKey, data, time.Hour).Err()
}
