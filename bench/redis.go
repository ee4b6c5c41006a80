package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// redisBackend is a private redis-server, a client of it as applications are told
// to make one, and a provider on the client.
type redisBackend struct {
	server   *testserver.Redis
	client   redis.UniversalClient
	provider *redisprovider.Provider
}

// startRedis fails with exec.ErrNotFound where redis-server is not installed.
func startRedis() (*redisBackend, error) {
	server, err := testserver.StartRedis()
	if err != nil {
		return nil, err
	}
	b := &redisBackend{server: server, client: newRedisClient(server)}
	if b.provider, err = redisprovider.New(b.client, nil); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func newRedisClient(server *testserver.Redis) redis.UniversalClient {
	o := redisprovider.RecommendedOptions()
	o.Addrs = []string{server.Addr()}
	o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience
	return redis.NewUniversalClient(o)
}

func (b *redisBackend) close() error {
	var err error
	if b.provider != nil {
		err = b.provider.Close(context.Background())
	}
	return errors.Join(err, b.client.Close(), b.server.Close())
}

// recordPattern is what the names of all partitions look like in Redis.
const recordPattern = "coatcheck:{*}:r:*"

// keys are the names in Redis that look like the pattern.
func (b *redisBackend) keys(pattern string) (keys []string, err error) {
	all := b.client.Scan(context.Background(), 0, pattern, 1000).Iterator()
	for all.Next(context.Background()) {
		keys = append(keys, all.Val())
	}
	return keys, all.Err()
}

// measureRedis measures partitions of 8 KB.
func measureRedis(rounds int) (figures []figure, err error) {
	b, err := startRedis()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, measure := range []func(*redisBackend, int) ([]figure, error){measureRedisLoads, measureRedisPeer, measureRedisSaves, measureRedisTrips} {
		some, err := measure(b, rounds)
		if err != nil {
			return nil, err
		}
		figures = append(figures, some...)
	}
	return figures, nil
}

// eightKB are the tokens of a user whose record is 8 KB.
var eightKB = tokenSizes{access: 2900, refresh: 1800, id: 1930}

// measureRedisLoads compares tokens, and the provider's part in them, with a GET of
// the very records that they are in.
func measureRedisLoads(b *redisBackend, rounds int) (figures []figure, err error) {
	noted := &noting{Provider: b.provider, most: activeUsers}
	cache, err := sealedCache(noted)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cache.Close(context.Background()) }()
	keys, err := eightKB.signIn(cache)
	if err != nil {
		return nil, err
	}
	records, err := b.keys(recordPattern)
	if err != nil {
		return nil, err
	}
	if len(records) != activeUsers {
		return nil, fmt.Errorf("%d users have %d records", activeUsers, len(records))
	}
	size, err := b.client.StrLen(context.Background(), records[0]).Result()
	if err != nil {
		return nil, err
	}
	get := side{"GET", b.gets(records, int(size))}
	token, load := side{"token", tokens(cache, keys, fromProvider)}, side{"Load", loads(b.provider, noted.names)}
	for _, c := range []struct {
		what       string
		bar        bar
		goroutines int
		other      side
	}{
		{"Redis: token of an 8 KB partition, to a bare GET, 1 goroutine", atMost(1.3), 1, token},
		{"the same, 16 goroutines", atMost(1.6), goroutines, token},
		{"the provider's Load alone, 1 goroutine", bar{}, 1, load},
		{"the same, 16 goroutines", bar{}, goroutines, load},
	} {
		f, err := ratioOn(c.goroutines, c.what, c.bar, rounds, get, c.other)
		if err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	figures[0].detail += fmt.Sprintf("; %d bytes", size)
	for _, c := range []struct {
		what  string
		other side
	}{{"token, one a millisecond", token}, {"the provider's Load, one a millisecond", load}} {
		f, err := paced(c.what, rounds, get, c.other)
		if err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	return figures, nil
}

// gets reads keys whose values have about that size.
func (b *redisBackend) gets(keys []string, size int) batch {
	return func(first, n int) error {
		for i := range n {
			value, err := b.client.Get(context.Background(), keys[(first+i)%len(keys)]).Result()
			if err != nil {
				return err
			}
			if len(value) < size-100 {
				return errMiss
			}
		}
		return nil
	}
}

func loads(p tokencache.Provider, names []tokencache.Name) batch {
	return func(first, n int) error {
		for i := range n {
			if _, err := p.Load(context.Background(), names[(first+i)%len(names)]); err != nil {
				return err
			}
		}
		return nil
	}
}
