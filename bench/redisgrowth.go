package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// redisShop is a server with so many partitions, a cache that loads each token,
// and a saver of about as many partitions as there are active users.
type redisShop struct {
	*redisBackend
	loading *tokencache.Cache
	keys    []tokencache.Key // of the active users
	saver   *saver
	memory  uint64 // that a partition takes on the server
}

// stockAtOnce is how many partitions are on their way to the server together.
// Their saves share pipelines.
const stockAtOnce = 512

// measureRedisGrowth is measureGrowth on two servers. Nothing is sealed, which
// would only add the same to both sides.
func measureRedisGrowth(rounds int) (figures []figure, err error) {
	few, err := newRedisShop(fewPartitions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, few.close()) }()
	many, err := newRedisShop(manyPartitions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, many.close()) }()

	loads, err := ratio("Redis, 1 000 000 partitions to 1 000: token", atMost(1.2), rounds,
		side{"few", tokens(few.loading, few.keys, fromProvider)}, side{"many", tokens(many.loading, many.keys, fromProvider)})
	if err != nil {
		return nil, err
	}
	saves, err := ratioOn(1, "the same: conditional save", bar{}, rounds,
		side{"few", few.saver.saves}, side{"many", many.saver.saves})
	if err != nil {
		return nil, err
	}
	payload := len(many.saver.records[0].Sealed)
	return []figure{loads, saves, {
		"Redis: memory of a partition and its owner, to the payload", float64(many.memory) / float64(payload), "×", bar{},
		fmt.Sprintf("%d bytes for %d", many.memory, payload),
	}}, nil
}

func newRedisShop(partitions int) (s *redisShop, err error) {
	b, err := startRedis()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	s = &redisShop{redisBackend: b}
	empty, err := b.usedMemory()
	if err != nil {
		return nil, err
	}
	names, err := s.stock(partitions)
	if err != nil {
		return nil, err
	}
	full, err := b.usedMemory()
	if err != nil {
		return nil, err
	}
	s.memory = (full - empty) / uint64(partitions) // #nosec G115 -- a constant
	if s.saver, err = saverOf(b.provider, names); err != nil {
		return nil, err
	}
	s.loading, err = newCache(b.provider, false)
	return s, err
}

func (s *redisShop) close() error {
	return errors.Join(s.loading.Close(context.Background()), s.redisBackend.close())
}

// stock makes the partitions with the provider's own Save, over a client that
// sends what is asked for at one moment as one pipeline. It returns the names of
// the first that were saved.
func (s *redisShop) stock(partitions int) (names []tokencache.Name, err error) {
	piping, err := s.client.AutoPipeline()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, piping.Close()) }()
	provider, err := redisprovider.New(piping, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, provider.Close(context.Background())) }()
	noted := &noting{Provider: provider, most: activeUsers}
	if s.keys, err = stock(noted, partitions, stockAtOnce); err != nil {
		return nil, err
	}
	// A record and an index for each user, and nothing else.
	size, err := s.client.DBSize(context.Background()).Result()
	if err == nil && size != int64(2*partitions) {
		err = fmt.Errorf("%d keys of %d partitions", size, partitions)
	}
	return noted.names, err
}

// usedMemory is what the server says it has allocated.
func (b *redisBackend) usedMemory() (uint64, error) {
	info, err := b.client.Info(context.Background(), "memory").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			return strconv.ParseUint(value, 10, 64)
		}
	}
	return 0, errors.New("the server does not tell its memory")
}
