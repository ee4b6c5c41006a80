package main

import (
	"context"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// recordLife is that of the records: a part of a second makes go-redis say PX
// where it would say EX.
const recordLife = 14*24*time.Hour + time.Millisecond

// saver replaces records, each if it is the one that this saver put there. It
// is for one goroutine.
type saver struct {
	provider tokencache.Provider
	names    []tokencache.Name
	records  []tokencache.Record
}

// newSaver stores new records under random names.
func newSaver(p tokencache.Provider, count, size int) (*saver, error) {
	s := &saver{provider: p}
	for range count {
		s.names = append(s.names, tokencache.Name{Owner: randomName(), Partition: randomName()})
		s.records = append(s.records, tokencache.Record{
			Sealed: random(size), Version: tokencache.NewVersion(), Expires: time.Now().Add(recordLife),
		})
		if err := p.Save(context.Background(), s.names[len(s.names)-1], s.records[len(s.records)-1], tokencache.Condition{}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// saverOf takes over what is stored under the names, each of which must be in its
// owner's index.
func saverOf(p tokencache.Provider, names []tokencache.Name) (*saver, error) {
	s := &saver{provider: p, names: names}
	for _, n := range names {
		r, err := p.Load(context.Background(), n)
		if err != nil {
			return nil, err
		}
		listed, err := p.Capabilities().Owners.List(context.Background(), n.Owner)
		if err != nil {
			return nil, err
		}
		if len(listed) != 1 || listed[0] != n {
			return nil, errMiss
		}
		s.records = append(s.records, r)
	}
	return s, nil
}

// noting notes under which names the first records are saved.
type noting struct {
	tokencache.Provider
	most int

	mu    sync.Mutex
	names []tokencache.Name
}

func (p *noting) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	p.mu.Lock()
	if len(p.names) < p.most {
		p.names = append(p.names, n)
	}
	p.mu.Unlock()
	return p.Provider.Save(ctx, n, r, c)
}

// saves is a batch of conditional saves.
func (s *saver) saves(first, n int) error {
	for i := range n {
		at := (first + i) % len(s.names)
		r := &s.records[at]
		seen := r.Version
		r.Version, r.Expires = tokencache.NewVersion(), time.Now().Add(recordLife)
		if err := s.provider.Save(context.Background(), s.names[at], *r, tokencache.IfVersion(seen)); err != nil {
			return err
		}
	}
	return nil
}

// measureRedisSaves compares conditional saves with a SET of as many bytes, under
// keys as long. Whether anybody hears of the changes is a difference.
func measureRedisSaves(b *redisBackend, rounds int) ([]figure, error) {
	const size = 8 << 10
	s, err := newSaver(b.provider, activeUsers, size)
	if err != nil {
		return nil, err
	}
	set := side{"SET", b.sets(activeUsers, size)}
	save := side{"save", s.saves}
	unheard, err := ratioOn(1, "Redis: conditional save with all it does, to a bare SET of 8 KB", atMost(1.8), rounds, set, save)
	if err != nil {
		return nil, err
	}
	apart, err := paced("the same, one a millisecond", rounds, set, save)
	if err != nil {
		return nil, err
	}
	cache, err := sealedCache(b.provider) // it subscribes to changes
	if err != nil {
		return nil, err
	}
	defer func() { _ = cache.Close(context.Background()) }()
	heard, err := ratioOn(1, "in a loop again, while this process listens to the changes", bar{}, rounds, set, save)
	if err != nil {
		return nil, err
	}
	again, err := ratioOn(1, "the cache's own: load, open, merge, seal, save", bar{}, rounds, set, side{"sign-in", eightKB.signInAgain(cache)})
	return []figure{unheard, apart, heard, again}, err
}

// sets stores values under keys of the same shape as a record's.
func (b *redisBackend) sets(count, size int) batch {
	keys, values := make([]string, count), make([][]byte, count)
	for i := range keys {
		keys[i] = "bare:0000:{" + randomName() + "}:r:" + randomName()
		values[i] = random(size + recordOverhead)
	}
	return func(first, n int) error {
		for i := range n {
			at := (first + i) % count
			if err := b.client.Set(context.Background(), keys[at], values[at], recordLife).Err(); err != nil {
				return err
			}
		}
		return nil
	}
}

// recordOverhead is what the provider stores beside the sealed bytes: a byte of
// format, the version and the expiry.
const recordOverhead = 1 + 16 + 8

// signInAgain is a sign-in to a partition that may be there: load, open, decode,
// merge, encode, seal, save.
func (s tokenSizes) signInAgain(c *tokencache.Cache) batch {
	return func(first, n int) error {
		for i := range n {
			user := (first + i) % activeUsers
			if _, err := c.SignIn(context.Background(), func(context.Context) (tokencache.Grant, error) {
				return s.grant(user), nil
			}); err != nil {
				return err
			}
		}
		return nil
	}
}
