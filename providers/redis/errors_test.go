package redis_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// calls are one of each kind, on a name whose record has the version.
func calls(p *redisprovider.Provider, n tokencache.Name, v tokencache.Version) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"load":  func(ctx context.Context) error { _, err := p.Load(ctx, n); return err },
		"save":  func(ctx context.Context) error { return p.Save(ctx, n, record("next"), tokencache.Always()) },
		"lease": func(ctx context.Context) error { _, err := p.Acquire(ctx, n, time.Second); return err },
		"touch": func(ctx context.Context) error { return p.Touch(ctx, n, v, time.Now().Add(time.Hour)) },
		"mark": func(ctx context.Context) error {
			return p.SetMark(ctx, n.Owner, tokencache.NewVersion(), time.Now().Add(time.Hour))
		},
		"list": func(ctx context.Context) error { _, err := p.List(ctx, n.Owner); return err },
	}
}

var reads, writes = []string{"load", "list"}, []string{"save", "lease", "touch", "mark"}

// wantFailure wants an error that says what to do and is none of the contract's,
// none of the driver's words, and quick.
func wantFailure(t *testing.T, p *redisprovider.Provider, text string, kinds ...string) {
	t.Helper()
	all := calls(p, newName(), tokencache.NewVersion())
	for _, kind := range kinds {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		err := all[kind](ctx)
		cancel()
		switch {
		case err == nil:
			t.Errorf("%s: no error, want %q", kind, text)
		case !strings.Contains(err.Error(), text):
			t.Errorf("%s: error %q, want %q in it", kind, err, text)
		case strings.Contains(err.Error(), "127.0.0.1"), strings.Contains(err.Error(), "marker-"):
			t.Errorf("%s: an address or a secret is in the error", kind)
		}
		for _, answer := range []error{
			tokencache.ErrNotFound, tokencache.ErrConflict, tokencache.ErrRemoved, tokencache.ErrTooLarge, tokencache.ErrBusy,
		} {
			if errors.Is(err, answer) {
				t.Errorf("%s: an outage is taken for %q", kind, answer)
			}
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s took %v", kind, took)
		}
	}
}

func both() []string { return append(append([]string(nil), reads...), writes...) }

func TestRefused(t *testing.T) {
	s := testserver.NewRedis(t)
	p := onServer(t, s.Addr())
	must(t, s.Kill())
	wantFailure(t, p, "no server listens", both()...)
}

func TestHung(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	p := onServer(t, s.Addr())
	must(t, p.Ping(t.Context()))
	must(t, s.Pause())
	wantFailure(t, p, "no answer in time", both()...)
	must(t, s.Resume())
	must(t, p.Ping(t.Context()))
}

func TestCutOff(t *testing.T) {
	s := testserver.NewRedis(t)
	proxy := testserver.NewProxy(t, s.Addr())
	p := onServer(t, proxy.Addr())
	must(t, p.Ping(t.Context()))
	proxy.Set(testserver.Fault{DropReplies: true})
	wantFailure(t, p, "the connection was cut", both()...)
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t, "replicaof 127.0.0.1 1")
	p := onServer(t, s.Addr())
	wantFailure(t, p, "READONLY", "save", "lease", "mark")
	if _, err := p.Load(t.Context(), newName()); !errors.Is(err, tokencache.ErrNotFound) {
		t.Errorf("load: %v", err)
	}
	must(t, connect(t, s.Addr()).ConfigSet(t.Context(), "replica-serve-stale-data", "no").Err())
	wantFailure(t, p, "MASTERDOWN", both()...)
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t, "maxmemory 6mb", "maxmemory-policy noeviction")
	p := onServer(t, s.Addr())
	ctx := t.Context()
	var names []tokencache.Name
	for {
		n := newName()
		if len(names) == 200 {
			t.Fatal("the memory is never full")
		}
		if err := p.Save(ctx, n, record(strings.Repeat("x", 64<<10)), tokencache.Condition{}); err != nil {
			if !strings.Contains(err.Error(), "OOM") {
				t.Fatal("save:", err)
			}
			if _, err := p.Load(ctx, n); !errors.Is(err, tokencache.ErrNotFound) {
				t.Error("a save that failed has left something:", err)
			}
			if listed, err := p.List(ctx, n.Owner); err != nil || len(listed) > 0 {
				t.Error("a save that failed is listed:", len(listed), err)
			}
			break
		}
		names = append(names, n)
	}
	// Full by more than the buffers that the server frees a moment later.
	must(t, connect(t, s.Addr()).ConfigSet(ctx, "maxmemory", "3mb").Err())
	wantFailure(t, p, "OOM", "save", "lease")

	// What makes room still works, so that users can sign out.
	n := names[0]
	must(t, p.SetMark(ctx, n.Owner, tokencache.NewVersion(), time.Now().Add(time.Hour)))
	stored, err := p.Load(ctx, n)
	must(t, err)
	must(t, p.Touch(ctx, n, stored.Version, time.Now().Add(2*time.Hour)))
	must(t, p.Save(ctx, n, tombstone(), tokencache.IfVersion(stored.Version)))
	if gone, err := p.Load(ctx, n); err != nil || !gone.Removed() {
		t.Error("the tombstone is not there:", err)
	}
}

func TestLoading(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t, "appendonly yes")
	c := connect(t, s.Addr(), patient)
	pipe := c.Pipeline()
	for i := range 30_000 {
		pipe.Set(t.Context(), fmt.Sprint("other:", i), "x", 0)
	}
	_, err := pipe.Exec(t.Context())
	must(t, err)
	// From now on each key takes its time to load.
	must(t, c.ConfigSet(t.Context(), "key-load-delay", "100").Err())
	must(t, c.ConfigRewrite(t.Context()).Err())
	must(t, s.Kill())
	started := make(chan error, 1)
	go func() { started <- s.Start() }()
	// It answers now and then only.
	p := newProvider(t, connect(t, s.Addr(), patient), nil)
	for kind, call := range calls(p, newName(), tokencache.NewVersion()) {
		eventually(t, 10*time.Second, kind+" while the server is loading", func() bool {
			err := call(t.Context())
			return err != nil && strings.Contains(err.Error(), "LOADING")
		})
	}
	must(t, <-started)
	must(t, p.Ping(t.Context()))
}

func TestClusterRefusals(t *testing.T) {
	empty := testserver.NewRedis(t, "cluster-enabled yes")
	wantFailure(t, onServer(t, empty.Addr()), "CLUSTERDOWN", both()...)

	// A client that knows nothing of clusters, at a node of one.
	c := connect(t, empty.Addr())
	must(t, c.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err())
	eventually(t, 5*time.Second, "the cluster is up", func() bool {
		return strings.Contains(c.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	must(t, onServer(t, empty.Addr()).Save(t.Context(), newName(), record("x"), tokencache.Condition{}))
}

func TestCredentials(t *testing.T) {
	const password = "marker-password"
	s := testserver.NewRedis(t, "requirepass "+password, "user few on >marker-few ~coatcheck:* +@all -evalsha -getrange")
	for _, kind := range both() { // a large command has the server close the connection, which the next may get
		wantFailure(t, onServer(t, s.Addr()), "NOAUTH", kind)
	}
	as := func(name, password string) *redisprovider.Provider {
		return newProvider(t, connect(t, s.Addr(), func(o *redis.UniversalOptions) { o.Username, o.Password = name, password }), nil)
	}
	wantFailure(t, as("", "marker-wrong"), "WRONGPASS", both()...)
	wantFailure(t, as("few", "marker-few"), "NOPERM", both()...)
	must(t, as("", password).Save(t.Context(), newName(), record("x"), tokencache.Condition{}))
}

// accessList is the list in the package comment.
func accessList(t *testing.T) (rules []any) {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	must(t, err)
	_, list, ok := strings.Cut(string(text), "the user needs\n//\n")
	list, _, ok2 := strings.Cut(list, "//\n// for")
	if !ok || !ok2 {
		t.Fatal("the package comment has no access list")
	}
	for _, rule := range strings.Fields(strings.ReplaceAll(list, "//", "")) {
		rules = append(rules, rule)
	}
	return rules
}

// The access list in the package comment is enough, and nothing in it too much.
func TestAccessList(t *testing.T) {
	t.Parallel()
	rules := accessList(t)
	s := testserver.NewRedis(t)
	admin := connect(t, s.Addr())
	grant := func(rules []any) {
		t.Helper()
		must(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "app", "reset", "on", ">marker-app"}, rules...)...).Err())
	}
	p := newProvider(t, connect(t, s.Addr(), func(o *redis.UniversalOptions) { o.Username, o.Password = "app", "marker-app" }),
		&redisprovider.Options{Log: new(journal).logger()})
	grant(rules)
	must(t, everything(t, p))
	grant(append(rules[:len(rules):len(rules)], "+info", "+client|info"))
	_, err := p.Doctor(t.Context())
	must(t, err)
	for i, r := range rules {
		grant(append(rules[:i:i], rules[i+1:]...))
		must(t, admin.ScriptFlush(t.Context()).Err())
		if everything(t, p) == nil {
			t.Errorf("%s is not needed", r)
		}
	}
}

// everything uses all that the provider has, and returns the first error.
func everything(t *testing.T, p *redisprovider.Provider) error {
	ctx := t.Context()
	watching, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	missed := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Watch(watching, func(tokencache.Change) { missed <- struct{}{} })
	}()
	defer func() { <-done }()
	select {
	case <-missed:
	case <-watching.Done():
		return errors.New("no subscription")
	}
	n, r := newName(), record("x")
	lasting := tokencache.Record{Sealed: []byte("y"), Version: tokencache.NewVersion()}
	lease, err := p.Acquire(ctx, n, time.Second)
	if err != nil {
		return err
	}
	defer stop()
	_, lerr := p.Load(ctx, n)
	_, listErr := p.List(ctx, n.Owner)
	for _, err := range []error{
		ignore(lerr, tokencache.ErrNotFound), listErr,
		p.Save(ctx, n, r, tokencache.Condition{}),
		p.Save(ctx, n, lasting, tokencache.Always()),
		p.Touch(ctx, n, lasting.Version, time.Now().Add(time.Hour)),
		p.Save(ctx, n, tombstone(), tokencache.Always()),
		p.SetMark(ctx, n.Owner, tokencache.NewVersion(), time.Now().Add(time.Hour)),
		lease.Renew(ctx, time.Second), lease.Release(ctx), p.Ping(ctx),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// What another application has put under our keys does not open, and is replaced
// by a sign-in; where it stands in for a mark, nobody is removed.
func TestForeignValues(t *testing.T) {
	s := testserver.NewRedis(t)
	c, ctx := connect(t, s.Addr()), t.Context()
	p := newProvider(t, c, nil)
	for name, put := range map[string]func(key string){
		"a list":         func(key string) { must(t, c.RPush(ctx, key, "x").Err()) },
		"a short string": func(key string) { must(t, c.Set(ctx, key, "x", 0).Err()) },
		"another format": func(key string) { must(t, c.Set(ctx, key, strings.Repeat("z", 100), 0).Err()) },
	} {
		n := newName()
		base := "coatcheck:{" + n.Owner + "}:"
		put(base + "r:" + n.Partition)
		got, err := p.Load(ctx, n)
		if err != nil || got.Removed() || got.Version != (tokencache.Version{}) {
			t.Errorf("load of %s: removed %v, version %v, error %v", name, got.Removed(), got.Version, err)
		}
		for what, cond := range map[string]tokencache.Condition{
			"creation": {}, "update": tokencache.IfVersion(tokencache.NewVersion()), "zero": tokencache.IfVersion(tokencache.Version{}),
		} {
			if err := p.Save(ctx, n, record("x"), cond); !errors.Is(err, tokencache.ErrConflict) {
				t.Errorf("%s over %s: %v", what, name, err)
			}
		}
		if err := p.Touch(ctx, n, tokencache.NewVersion(), time.Now().Add(time.Hour)); !errors.Is(err, tokencache.ErrConflict) {
			t.Errorf("touch of %s: %v", name, err)
		}
		must(t, p.Save(ctx, n, record("mine"), tokencache.Always()))
		if got, err := p.Load(ctx, n); err != nil || string(got.Sealed) != "mine" {
			t.Errorf("after a save over %s: %v", name, err)
		}

		put(base + "m")
		if _, err := p.Load(ctx, n); err == nil || errors.Is(err, tokencache.ErrNotFound) {
			t.Errorf("load beside %s for a mark: %v", name, err)
		}
		must(t, p.SetMark(ctx, n.Owner, tokencache.NewVersion(), time.Now().Add(time.Hour)))
		_, err = p.Load(ctx, n)
		must(t, err)

		n = newName()
		put("coatcheck:{" + n.Owner + "}:i")
		if err := p.Save(ctx, n, record("x"), tokencache.Condition{}); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
			t.Errorf("save beside %s for an index: %v", name, err)
		}
		if _, err := p.Load(ctx, n); !errors.Is(err, tokencache.ErrNotFound) {
			t.Errorf("a save that failed has left something: %v", err)
		}

		n = newName()
		r := record("x")
		must(t, p.Save(ctx, n, r, tokencache.Condition{}))
		must(t, c.Del(ctx, "coatcheck:{"+n.Owner+"}:i").Err())
		put("coatcheck:{" + n.Owner + "}:i")
		if err := p.Touch(ctx, n, r.Version, time.Now().Add(24*time.Hour)); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
			t.Errorf("touch beside %s for an index: %v", name, err)
		}
		if life := c.PTTL(ctx, "coatcheck:{"+n.Owner+"}:r:"+n.Partition).Val(); life > time.Hour {
			t.Errorf("a touch that failed has left a life of %v", life)
		}
	}
}

// A user who may not use the channel saves nothing, rather than that nobody hears
// of. Users who are not given channels have none.
func TestChannelForbidden(t *testing.T) {
	s := testserver.NewRedis(t, "user app on nopass ~* +@all resetchannels")
	c := connect(t, s.Addr(), func(o *redis.UniversalOptions) { o.Username, o.Password = "app", "any" })
	p, n := newProvider(t, c, nil), newName()
	if err := p.Save(t.Context(), n, record("x"), tokencache.Condition{}); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("save: %v", err)
	}
	if _, err := p.Load(t.Context(), n); !errors.Is(err, tokencache.ErrNotFound) {
		t.Errorf("a save that failed has left something: %v", err)
	}
}
