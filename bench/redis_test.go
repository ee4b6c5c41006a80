package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// newRedis starts a server for a test, which is skipped where none is installed.
// Tests with one are not parallel: they would take the time that others measure.
func newRedis(t *testing.T) *redisBackend {
	t.Helper()
	return started(t, startRedis)
}

// started starts a backend for a test.
func started[B interface{ close() error }](t *testing.T, start func() (B, error)) B {
	t.Helper()
	b, err := start()
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("COATCHECK_REQUIRE_SERVERS") == "" {
		t.Skip("install it to run this test:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error("close:", err)
		}
	})
	return b
}

func TestNoRedisServer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for name, measure := range map[string]func(int) ([]figure, error){"redis": measureRedis, "redis-growth": measureRedisGrowth} {
		if _, err := measure(1); !errors.Is(err, exec.ErrNotFound) {
			t.Errorf("%s: error %v, want %v", name, err, exec.ErrNotFound)
		}
	}
}

// Both sides of a comparison must move the same bytes.
func TestRedisSides(t *testing.T) {
	b := newRedis(t)
	ctx := context.Background()
	s, err := newSaver(b.provider, 3, 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.saves(1, 5); err != nil {
		t.Fatal(err)
	}
	if err := b.sets(3, 8<<10)(1, 5); err != nil {
		t.Fatal(err)
	}
	var sizes []int64
	for _, pattern := range []string{recordPattern, "bare:*"} {
		keys, err := b.keys(pattern)
		if err != nil || len(keys) != 3 {
			t.Fatalf("%d keys like %s, want 3; error %v", len(keys), pattern, err)
		}
		size, err := b.client.StrLen(ctx, keys[0]).Result()
		if err != nil {
			t.Fatal(err)
		}
		life, err := b.client.PTTL(ctx, keys[0]).Result()
		if err != nil || life <= 0 || life > recordLife {
			t.Errorf("%s: lives for %v, error %v", pattern, life, err)
		}
		sizes = append(sizes, size, int64(len(keys[0])))
	}
	if sizes[0] != sizes[2] || sizes[1] != sizes[3] {
		t.Errorf("a record has %d bytes under a key of %d, the bare value %d under one of %d", sizes[0], sizes[1], sizes[2], sizes[3])
	}
	other := saver{provider: b.provider, names: s.names, records: []tokencache.Record{{Version: tokencache.NewVersion()}}}
	if err := other.saves(0, 1); !errors.Is(err, tokencache.ErrConflict) {
		t.Errorf("a save with another's version: error %v, want %v", err, tokencache.ErrConflict)
	}
}

func TestRedisTrips(t *testing.T) {
	b := newRedis(t)
	figures, err := measureRedisTrips(b, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := countMissed(figures); n > 0 || len(figures) != 2 {
		t.Errorf("%d bars missed: %+v", n, figures)
	}
}

// What is stocked in pipelines is what the cache and the provider store.
func TestRedisStock(t *testing.T) {
	b := newRedis(t)
	s := &redisShop{redisBackend: b}
	const users = 1100
	names, err := s.stock(users)
	if err != nil {
		t.Fatal(err)
	}
	saver, err := saverOf(b.provider, names)
	if err != nil || len(saver.records) != activeUsers {
		t.Fatalf("%d records, error %v", len(saver.records), err)
	}
	ctx := context.Background()
	for i, n := range names {
		twin := tokencache.Name{Owner: randomName(), Partition: randomName()}
		if i%100 > 0 {
			continue
		}
		if err := b.provider.Save(ctx, twin, saver.records[i], tokencache.Condition{}); err != nil {
			t.Fatal(err)
		}
		same(t, b, n, twin)
	}
	cache, err := newCache(b.provider, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cache.Close(ctx) }()
	for i := range users + 1 {
		all, err := cache.Partition(tokencache.AccountKey(accountID(i))).Tokens(ctx)
		if (err == nil) != (i < users) {
			t.Errorf("user %d of %d: error %v", i, users, err)
		}
		if err == nil && (len(all.Accounts()) != 1 || all.Accounts()[0].ID != accountID(i)) {
			t.Errorf("user %d has the accounts of another", i)
		}
	}
}

// same fails the test unless two names have the same bytes, and about the same
// lives, in the same kinds of keys.
func same(t *testing.T, b *redisBackend, n, twin tokencache.Name) {
	t.Helper()
	ctx := context.Background()
	var dumps [2][]byte
	for i, name := range []tokencache.Name{n, twin} {
		base := "coatcheck:{" + name.Owner + "}:"
		record, err := b.client.Get(ctx, base+"r:"+name.Partition).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		index, err := b.client.ZRangeWithScores(ctx, base+"i", 0, -1).Result()
		if err != nil || len(index) != 1 || index[0].Member != name.Partition {
			t.Fatalf("the index has %d members, error %v", len(index), err)
		}
		for _, key := range []string{base + "r:" + name.Partition, base + "i"} {
			if life, err := b.client.PTTL(ctx, key).Result(); err != nil || life <= 0 {
				t.Errorf("a life of %v, error %v", life, err)
			}
		}
		dumps[i] = record
	}
	if !bytes.Equal(dumps[0], dumps[1]) {
		t.Error("the records differ")
	}
}
