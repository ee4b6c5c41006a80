package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// trips counts round trips: a pipeline is one.
type trips struct{ atomic.Int64 }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.Add(1)
		return next(ctx, cmd)
	}
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.Add(1)
		return next(ctx, cmds)
	}
}

func TestRoundTrips(t *testing.T) {
	s := testserver.NewRedis(t)
	c, ctx := connect(t, s.Addr()), t.Context()
	p, n, r := newProvider(t, c, nil), newName(), record("first")
	must(t, p.Save(ctx, n, r, tokencache.Condition{})) // now the server knows the script
	must(t, p.Touch(ctx, n, r.Version, time.Now().Add(time.Minute)))
	lease, err := p.Acquire(ctx, n, time.Minute)
	must(t, err)
	must(t, lease.Renew(ctx, time.Minute))
	must(t, lease.Release(ctx))
	must(t, p.SetMark(ctx, newName().Owner, tokencache.NewVersion(), time.Now().Add(time.Hour)))
	_, err = p.List(ctx, n.Owner)
	must(t, err)
	_, err = p.Load(ctx, n) // the client has a connection for each kind of call
	must(t, err)

	count := new(trips)
	c.AddHook(count)
	next := record("next")
	for _, one := range []struct {
		what string
		call func() error
	}{
		{"load", func() error { _, err := p.Load(ctx, n); return err }},
		{"load of nothing", func() error { _, err := p.Load(ctx, newName()); return ignore(err, tokencache.ErrNotFound) }},
		{"save", func() error { return p.Save(ctx, n, next, tokencache.IfVersion(r.Version)) }},
		{"touch", func() error { return p.Touch(ctx, n, next.Version, time.Now().Add(time.Hour)) }},
		{"lease", func() error { lease, err = p.Acquire(ctx, n, time.Minute); return err }},
		{"renewal", func() error { return lease.Renew(ctx, time.Minute) }},
		{"release", func() error { return lease.Release(ctx) }},
		{"mark", func() error {
			return p.SetMark(ctx, newName().Owner, tokencache.NewVersion(), time.Now().Add(time.Hour))
		}},
		{"list", func() error { _, err := p.List(ctx, n.Owner); return err }},
		{"removal", func() error { return p.Save(ctx, n, tombstone(), tokencache.Always()) }},
	} {
		before := count.Load()
		must(t, one.call())
		if got := count.Load() - before; got != 1 {
			t.Errorf("%s: %d round trips", one.what, got)
		}
	}
}

// A server that has forgotten the scripts is told them again.
func TestScriptsForgotten(t *testing.T) {
	s := testserver.NewRedis(t)
	c := connect(t, s.Addr())
	p := newProvider(t, c, nil)
	for range 3 {
		must(t, everything(t, p))
		must(t, c.ScriptFlush(t.Context()).Err())
	}
	must(t, s.Kill())
	must(t, s.Start())
	must(t, everything(t, p))
}

// What is too large is refused before it travels, in both directions.
func TestSizes(t *testing.T) {
	s := testserver.NewRedis(t)
	c, ctx := connect(t, s.Addr()), t.Context()
	p, n := newProvider(t, c, nil), newName()
	huge := tokencache.Record{Sealed: make([]byte, tokencache.MaxSealedSize+1), Version: tokencache.NewVersion()}
	if err := p.Save(ctx, n, huge, tokencache.Condition{}); !errors.Is(err, tokencache.ErrTooLarge) {
		t.Errorf("save of a byte too many: %v", err)
	}
	// Somebody who can write to the server may store what they like.
	must(t, c.Do(ctx, "SETRANGE", "coatcheck:{"+n.Owner+"}:r:"+n.Partition, 64<<20, "x").Err())
	before := sent(t, c)
	if _, err := p.Load(ctx, n); !errors.Is(err, tokencache.ErrTooLarge) {
		t.Errorf("load of 64 MiB: %v", err)
	}
	if bytes := sent(t, c) - before; bytes > 2*tokencache.MaxSealedSize {
		t.Errorf("%d bytes were sent for a record that is too large", bytes)
	}
	must(t, p.Save(ctx, n, record("healed"), tokencache.Always()))
}

// sent is how many bytes the server has sent.
func sent(t *testing.T, c redis.UniversalClient) (n int) {
	t.Helper()
	_, text, _ := strings.Cut(c.Info(t.Context(), "stats").Val(), "total_net_output_bytes:")
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Nothing of an owner is left when everything has expired, and the index holds
// no more than there is, however many partitions come and go.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	c, ctx := connect(t, s.Addr()), t.Context()
	p, owner := newProvider(t, c, nil), newName().Owner
	index := "coatcheck:{" + owner + "}:i"
	short := func(r tokencache.Record) tokencache.Record {
		r.Expires = time.Now().Add(300 * time.Millisecond)
		return r
	}
	for round := range 3 {
		for range 100 {
			n := tokencache.Name{Owner: owner, Partition: newName().Partition}
			must(t, p.Save(ctx, n, short(record("short")), tokencache.Condition{}))
			m := tokencache.Name{Owner: owner, Partition: newName().Partition}
			r := record("removed")
			must(t, p.Save(ctx, m, r, tokencache.Condition{}))
			must(t, p.Save(ctx, m, short(tokencache.Record{Version: tokencache.NewVersion()}), tokencache.IfVersion(r.Version)))
		}
		if size := c.ZCard(ctx, index).Val(); size > 100 {
			t.Errorf("round %d: %d members of the index", round, size)
		}
		if round < 2 {
			time.Sleep(350 * time.Millisecond)
		}
	}
	eventually(t, 5*time.Second, "every key is gone", func() bool { return c.DBSize(ctx).Val() == 0 })
}

// An index that was evicted is made again by what uses the partition.
func TestIndexHeals(t *testing.T) {
	s := testserver.NewRedis(t)
	c, ctx := connect(t, s.Addr()), t.Context()
	p, n, r := newProvider(t, c, nil), newName(), record("there")
	must(t, p.Save(ctx, n, r, tokencache.Condition{}))
	must(t, c.Del(ctx, "coatcheck:{"+n.Owner+"}:i").Err())
	must(t, p.Touch(ctx, n, r.Version, time.Now().Add(time.Hour)))
	if listed, err := p.List(ctx, n.Owner); err != nil || len(listed) != 1 || listed[0] != n {
		t.Errorf("%d names after a touch, error %v", len(listed), err)
	}
}

// Every key of ours has the prefix and a life.
func TestKeys(t *testing.T) {
	s := testserver.NewRedis(t)
	c, ctx := connect(t, s.Addr()), t.Context()
	p := newProvider(t, c, &redisprovider.Options{Prefix: "app-1/"})
	must(t, everything(t, p))
	n, r := newName(), record("x")
	must(t, p.Save(ctx, n, r, tokencache.Condition{}))
	_, err := p.Acquire(ctx, n, time.Minute)
	must(t, err)
	keys, err := c.Keys(ctx, "*").Result()
	must(t, err)
	for _, k := range keys {
		if !strings.HasPrefix(k, "app-1/{owner") {
			t.Error("a key of another shape:", k)
		}
		if life := c.PTTL(ctx, k).Val(); life <= 0 {
			t.Errorf("%s has the life %v", k, life)
		}
	}
	if len(keys) < 5 {
		t.Errorf("%d keys", len(keys))
	}
}

// What is refused is heard of by nobody, and leaves nothing behind.
func TestRefusedSaveLeavesNothing(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	admin := connect(t, s.Addr())
	p := newProvider(t, admin, nil)
	ctx, n := t.Context(), newName()
	stored := record("stored")
	must(t, p.Save(ctx, n, stored, tokencache.Condition{}))
	mark := tokencache.NewVersion()
	marked := tokencache.Name{Owner: newName().Owner, Partition: n.Partition}
	must(t, p.SetMark(ctx, marked.Owner, mark, time.Now().Add(time.Hour)))
	foreign := newName()
	must(t, admin.Set(ctx, "coatcheck:{"+foreign.Owner+"}:i", "no index", 0).Err())
	changes := watch(t, p)
	next(t, changes, time.Second, true)
	before, err := admin.DBSize(ctx).Result()
	must(t, err)
	full := func(full bool) {
		t.Helper()
		for setting, value := range map[bool]string{true: "1", false: "0"} {
			if setting == full {
				must(t, admin.ConfigSet(ctx, "maxmemory", value).Err())
			}
		}
	}
	for what, refuse := range map[string]func() error{
		"there is something": func() error { return p.Save(ctx, n, record("x"), tokencache.Condition{}) },
		"another version":    func() error { return p.Save(ctx, n, record("x"), tokencache.IfVersion(tokencache.NewVersion())) },
		"nothing to replace": func() error { return p.Save(ctx, newName(), record("x"), tokencache.IfVersion(stored.Version)) },
		"a mark":             func() error { return p.Save(ctx, marked, record("x"), tokencache.Condition{}) },
		"no index":           func() error { return p.Save(ctx, foreign, record("x"), tokencache.Condition{}) },
		"full": func() error {
			full(true)
			defer full(false)
			return p.Save(ctx, n, record("x"), tokencache.IfVersion(stored.Version))
		},
		"a sign-out without a replica": func() error {
			must(t, admin.ConfigSet(ctx, "min-replicas-to-write", "1").Err())
			defer func() { must(t, admin.ConfigSet(ctx, "min-replicas-to-write", "0").Err()) }()
			return p.Save(ctx, n, tombstone(), tokencache.IfVersion(stored.Version))
		},
		"a sign-out and no index": func() error { return p.Save(ctx, foreign, tombstone(), tokencache.Condition{}) },
	} {
		if refuse() == nil {
			t.Errorf("%s: no error", what)
		}
		after, err := admin.DBSize(ctx).Result()
		if err != nil || after != before {
			t.Errorf("%s: %d keys, before %d; error %v", what, after, before, err)
		}
	}
	end := record("the end")
	must(t, p.Save(ctx, n, end, tokencache.IfVersion(stored.Version)))
	if c := <-changes; c.Name != n || c.Version != end.Version || c.Replaced != stored.Version {
		t.Error("a save that was refused was told")
	}
}

// A server that has forgotten the script is sent it whole, and has kept the value.
func TestSaveAfterScriptFlush(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	admin := connect(t, s.Addr())
	p := newProvider(t, admin, nil)
	n, r := newName(), record("saved by a script that was flushed")
	must(t, admin.ScriptFlush(t.Context()).Err())
	must(t, p.Save(t.Context(), n, r, tokencache.Condition{}))
	got, err := p.Load(t.Context(), n)
	if err != nil || got.Version != r.Version || string(got.Sealed) != string(r.Sealed) {
		t.Errorf("not what was saved, error %v", err)
	}
	if keys, err := admin.Keys(t.Context(), "*:s:*").Result(); err != nil || len(keys) > 0 {
		t.Errorf("%d values wait for a script, error %v", len(keys), err)
	}
}
