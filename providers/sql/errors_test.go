package sql_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// calls are one of each kind.
func calls(p *sqlprovider.Provider) map[string]func(context.Context) error {
	n, v, later := newName(), tokencache.NewVersion(), time.Now().Add(time.Hour)
	return map[string]func(context.Context) error{
		"load":   func(ctx context.Context) error { _, err := p.Load(ctx, n); return err },
		"create": func(ctx context.Context) error { return p.Save(ctx, n, record("next"), tokencache.Condition{}) },
		"save":   func(ctx context.Context) error { return p.Save(ctx, n, record("next"), tokencache.Always()) },
		"remove": func(ctx context.Context) error { return p.Save(ctx, n, tombstone(), tokencache.IfVersion(v)) },
		"lease":  func(ctx context.Context) error { _, err := p.Acquire(ctx, n, time.Second); return err },
		"touch":  func(ctx context.Context) error { return p.Touch(ctx, n, v, later) },
		"mark":   func(ctx context.Context) error { return p.SetMark(ctx, n.Owner, v, later) },
		"list":   func(ctx context.Context) error { _, err := p.List(ctx, n.Owner); return err },
		"sweep":  func(ctx context.Context) error { _, err := p.Sweep(ctx); return err },
		"ping":   p.Ping,
	}
}

var (
	reads  = []string{"load", "list"}
	writes = []string{"create", "save", "remove", "lease", "touch", "mark", "sweep"}
	both   = append(append([]string{"ping"}, reads...), writes...)
)

// wantFailure wants an error that says what to do and is none of the contract's,
// none of the driver's words, and quick.
func wantFailure(t *testing.T, p *sqlprovider.Provider, text string, kinds ...string) {
	t.Helper()
	limit := 5 * time.Second // of a busy machine, for an answer that comes
	if strings.Contains(text, "in time") {
		limit = 250 * time.Millisecond
	}
	all := calls(p)
	for _, kind := range kinds {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err := all[kind](ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: error %v, want %q in it", kind, err, text)
		}
		if took := time.Since(began); took > limit+time.Second {
			t.Errorf("%s took %v", kind, took)
		}
		wantClean(t, kind, err)
	}
}

// wantClean wants nothing in an error, nor in what it wraps, that is not for
// everybody's eyes, and no answer of the contract.
func wantClean(t *testing.T, what string, err error) {
	t.Helper()
	for _, answer := range []error{
		tokencache.ErrNotFound, tokencache.ErrConflict, tokencache.ErrRemoved, tokencache.ErrTooLarge, tokencache.ErrBusy,
	} {
		if errors.Is(err, answer) {
			t.Errorf("%s: an outage is taken for %q", what, answer)
		}
	}
	for ; err != nil; err = errors.Unwrap(err) {
		text := fmt.Sprintf("%v %+v %#v", err, err, err)
		for _, secret := range []string{"127.0.0.1", "marker", "owner", "coatcheck_", " INTO ", " FROM ", "postgres:", "database="} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: %q is in the error", what, secret)
			}
		}
	}
}

// start returns a server, a provider on it with a pool, and the pool.
func start(t *testing.T, changes ...func(*pgxpool.Config)) (*testserver.Postgres, *sqlprovider.Provider, *pgxpool.Pool) {
	t.Helper()
	s := testserver.NewPostgres(t)
	db := pool(t, s.URL(), changes...)
	return s, newProvider(t, sqlprovider.Postgres(db, nil)), db
}

// proxied is start with a proxy in between.
func proxied(t *testing.T, changes ...func(*pgxpool.Config)) (*testserver.Proxy, *testserver.Postgres, *sqlprovider.Provider) {
	t.Helper()
	s := testserver.NewPostgres(t)
	proxy := testserver.NewProxy(t, s.Addr())
	return proxy, s, newProvider(t, sqlprovider.Postgres(pool(t, s.URLAt(proxy.Addr()), changes...), nil))
}

func TestDown(t *testing.T) {
	t.Parallel()
	s, p, _ := start(t)
	must(t, s.Kill())
	wantFailure(t, p, "no server listens", both...)
	must(t, s.Start())
	eventually(t, 2*time.Second, "it works again", func() bool { return p.Ping(t.Context()) == nil })
	must(t, everything(t, p))
}

// A server that hangs holds nobody beyond the deadline, whoever waits for what: an
// answer, a connection that is being made, or one of a pool that has no more.
func TestHung(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int32{"many connections": 20, "one connection": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, _, p := proxied(t, func(c *pgxpool.Config) { c.MaxConns = size })
			must(t, p.Ping(t.Context()))
			proxy.Set(testserver.Fault{Hang: true})
			wantFailure(t, p, "no answer in time", both...)
			done := make(chan struct{})
			began := time.Now()
			for range 30 {
				go func() {
					wantFailure(t, p, "in time", "load")
					done <- struct{}{}
				}()
			}
			for range 30 {
				<-done
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("30 at once took %v", took)
			}
			proxy.Heal()
			eventually(t, 5*time.Second, "it works again", func() bool { return p.Ping(t.Context()) == nil })
			must(t, everything(t, p))
		})
	}
}

// The ends of contexts stay recognisable.
func TestContexts(t *testing.T) {
	t.Parallel()
	proxy, _, p := proxied(t)
	must(t, p.Ping(t.Context()))
	proxy.Set(testserver.Fault{Hang: true})
	defer proxy.Heal()
	for kind, call := range calls(p) {
		late, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		if err := call(late); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, late: %v", kind, err)
		}
		cancel()
		left, leave := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, leave)
		if err := call(left); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, left: %v", kind, err)
		}
		if err := call(left); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, before it began: %v", kind, err)
		}
	}
}

func TestCutOff(t *testing.T) {
	t.Parallel()
	proxy, _, p := proxied(t)
	must(t, p.Ping(t.Context()))
	proxy.Set(testserver.Fault{DropReplies: true})
	wantFailure(t, p, "", both...)
	proxy.Set(testserver.Fault{Cut: true})
	wantFailure(t, p, "no server listens", both...)
	proxy.Heal()
	eventually(t, time.Second, "it works again", func() bool { return p.Ping(t.Context()) == nil })
}

// What has no condition is sent once, since what others have done after it must
// not be undone: neither is it sent again where the driver says that it was not.
func TestLostReplyOfWhatIsSentOnce(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]pgx.QueryExecMode{
		"extended protocol": pgx.QueryExecModeCacheStatement, "simple protocol": pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NewPostgres(t)
			proxy := testserver.NewProxy(t, s.Addr())
			db := pool(t, s.URLAt(proxy.Addr()), func(c *pgxpool.Config) {
				c.MaxConns, c.ConnConfig.DefaultQueryExecMode = 1, mode
				c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false } // whose reply would be the lost one
			})
			p := newProvider(t, sqlprovider.Postgres(db, nil))
			n, r, mark := newName(), record("sent once"), tokencache.NewVersion()
			// In this order: a record that was saved without the mark is refused after it.
			for i, call := range []func(tokencache.Name) error{
				func(n tokencache.Name) error { return p.Save(t.Context(), n, r, tokencache.Always()) },
				func(n tokencache.Name) error { return p.SetMark(t.Context(), n.Owner, mark, time.Time{}) },
			} {
				must(t, call(newName())) // the statement is prepared
				proxy.Set(testserver.Fault{DropReplies: true, Times: 1})
				if err := call(n); err == nil {
					t.Errorf("call %d was sent again", i)
				}
				proxy.Heal()
			}
			got, err := p.Load(t.Context(), n)
			if err != nil || got.Version != r.Version || got.Mark != mark {
				t.Errorf("it was carried out: version %v, mark %v, error %v", got.Version == r.Version, got.Mark == mark, err)
			}
		})
	}
}

// A pool full of connections that have gone silent, or that belong to a server
// which has been started anew, costs a moment and not a call for each of them.
func TestDeadPool(t *testing.T) {
	t.Parallel()
	const size = 20
	full := func(c *pgxpool.Config) { c.MaxConns, c.MinConns = size, size }
	for name, test := range map[string]struct {
		spoil func(*testing.T, *testserver.Proxy, *testserver.Postgres)
		most  int // calls that may fail
	}{
		"silent": {func(_ *testing.T, proxy *testserver.Proxy, _ *testserver.Postgres) {
			proxy.Set(testserver.Fault{HalfOpen: true})
			proxy.Heal()
		}, 3},
		"server killed": {func(t *testing.T, _ *testserver.Proxy, s *testserver.Postgres) {
			must(t, s.Kill())
			must(t, s.Start())
		}, 2},
		"server stopped": {func(t *testing.T, _ *testserver.Proxy, s *testserver.Postgres) {
			must(t, s.Stop())
			must(t, s.Start())
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NewPostgres(t)
			proxy := testserver.NewProxy(t, s.Addr())
			db := pool(t, s.URLAt(proxy.Addr()), full)
			p := newProvider(t, sqlprovider.Postgres(db, nil))
			eventually(t, 10*time.Second, "the pool is full", func() bool { return db.Stat().IdleConns() == size })
			time.Sleep(1100 * time.Millisecond) // nobody has been answered for a while
			test.spoil(t, proxy, s)
			failed := 0
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if _, err := p.Load(ctx, newName()); !errors.Is(err, tokencache.ErrNotFound) {
					failed++
				}
				cancel()
			}
			if failed > test.most {
				t.Errorf("%d calls failed", failed)
			}
		})
	}
}

// Calls on all connections of a pool end without an answer, as when a firewall has
// forgotten them. The pool makes others soon, and not after the 15 s for which pgx
// waits for each to be closed by the server.
func TestSilentPool(t *testing.T) {
	t.Parallel()
	const size = 2
	s := testserver.NewPostgres(t)
	proxy := testserver.NewProxy(t, s.Addr())
	db := pool(t, s.URLAt(proxy.Addr()), func(c *pgxpool.Config) { c.MaxConns, c.MinConns = size, size })
	p := newProvider(t, sqlprovider.Postgres(db, nil))
	load := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := p.Load(ctx, newName())
		return err
	}
	var held []*pgxpool.Conn
	for range size { // so that each was used just now, and is not looked at before the next call
		c, err := db.Acquire(t.Context())
		must(t, err)
		held = append(held, c)
	}
	for _, c := range held {
		must(t, c.Ping(t.Context()))
		c.Release()
	}
	proxy.Set(testserver.Fault{HalfOpen: true})
	for range size {
		if err := load(100 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Load on a silent connection: %v", err)
		}
	}
	if err := load(8 * time.Second); !errors.Is(err, tokencache.ErrNotFound) {
		t.Errorf("Load afterwards: %v", err)
	}
}

// A server that takes no writes says so. When new connections find one that does,
// those of the pool are given up.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, _, root := start(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	_, err := root.Exec(ctx, "ALTER DATABASE postgres SET default_transaction_read_only = on") // from the next connection on
	must(t, err)
	p := newProvider(t, sqlprovider.Postgres(pool(t, s.URL()), nil))
	wantFailure(t, p, "25006", writes...)
	if _, err := p.Load(ctx, newName()); !errors.Is(err, tokencache.ErrNotFound) {
		t.Errorf("load: %v", err)
	}
	_, err = root.Exec(ctx, "ALTER DATABASE postgres RESET default_transaction_read_only")
	must(t, err)
	eventually(t, 3*time.Second, "it takes writes again", func() bool {
		return p.Save(ctx, newName(), record("x"), tokencache.Always()) == nil
	})
}

// What the server does to a statement is told in words that say what to do.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		setup string
		lock  string // held by another while the calls are made
		want  string
		kinds []string
		as    map[string]string
	}{
		"statement_timeout": {lock: "LOCK TABLE coatcheck_records, coatcheck_owners, coatcheck_leases", want: "57014",
			kinds: append(reads, writes...), as: map[string]string{"statement_timeout": "50"}},
		"lock_timeout": {lock: "LOCK TABLE coatcheck_records, coatcheck_owners, coatcheck_leases", want: "55P03",
			kinds: append(reads, writes...), as: map[string]string{"lock_timeout": "50"}},
		"no rights": {setup: "REVOKE ALL ON coatcheck_records, coatcheck_owners, coatcheck_leases FROM app", want: "42501",
			kinds: append(reads, writes...)},
		"no table": {setup: "DROP TABLE coatcheck_records, coatcheck_owners, coatcheck_leases", want: "Database.Migrate",
			kinds: append(reads, writes...)},
		"no column": {setup: "ALTER TABLE coatcheck_records DROP COLUMN sealed", want: "Database.Migrate", kinds: []string{"load", "create", "list"}},
		"hostile trigger": {setup: `CREATE FUNCTION hostile() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'marker-% ' , NEW.owner USING DETAIL = 'marker-detail', ERRCODE = 'XX"17'; END $$;
			CREATE TRIGGER hostile BEFORE INSERT ON coatcheck_records FOR EACH ROW EXECUTE FUNCTION hostile()`,
			want: "refuses the statement", kinds: []string{"create", "save"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, _, root := start(t)
			for _, sql := range []string{
				"CREATE ROLE app LOGIN PASSWORD 'marker-app'",
				"GRANT SELECT, INSERT, UPDATE, DELETE ON coatcheck_records, coatcheck_owners, coatcheck_leases TO app",
				"GRANT SELECT ON coatcheck_schema TO app",
			} {
				_, err := root.Exec(ctx, sql)
				must(t, err)
			}
			app := pool(t, s.URL(), func(c *pgxpool.Config) {
				c.ConnConfig.User, c.ConnConfig.Password = "app", "marker-app"
				for k, v := range test.as {
					c.ConnConfig.RuntimeParams[k] = v
				}
			})
			p := newProvider(t, sqlprovider.Postgres(app, nil))
			must(t, everything(t, p)) // these rights are enough
			if test.setup != "" {
				_, err := root.Exec(ctx, test.setup, pgx.QueryExecModeSimpleProtocol)
				must(t, err)
			}
			if test.lock != "" {
				tx, err := root.Begin(ctx)
				must(t, err)
				defer func() { _ = tx.Rollback(context.Background()) }()
				_, err = tx.Exec(ctx, test.lock)
				must(t, err)
			}
			wantFailure(t, p, test.want, test.kinds...)
		})
	}
}

// Who cannot sign in to the server reads why, and not as whom.
func TestSignInToServer(t *testing.T) {
	t.Parallel()
	s := testserver.NewPostgres(t, "max_connections = 5", "superuser_reserved_connections = 0", "max_wal_senders = 0")
	for name, test := range map[string]struct {
		change func(*pgxpool.Config)
		want   string
	}{
		"wrong password": {func(c *pgxpool.Config) { c.ConnConfig.Password = "marker-wrong" }, "28P01"},
		"no database":    {func(c *pgxpool.Config) { c.ConnConfig.Database = "marker-nowhere" }, "3D000"},
		"no server":      {func(c *pgxpool.Config) { c.ConnConfig.Port = 1 }, "no server listens"},
	} {
		_, err := sqlprovider.New(t.Context(), sqlprovider.Postgres(pool(t, s.URL(), test.change), nil))
		wantText(t, name, err, test.want)
		wantClean(t, name, err)
	}
	p := newProvider(t, sqlprovider.Postgres(pool(t, s.URL()), nil))
	var held []*pgx.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close(context.Background())
		}
	}()
	for {
		c, err := pgx.Connect(t.Context(), s.URL())
		if err != nil {
			break
		}
		held = append(held, c)
	}
	must(t, p.Ping(t.Context()))
	_, err := sqlprovider.New(t.Context(), sqlprovider.Postgres(pool(t, s.URL()), nil))
	wantText(t, "too many connections", err, "53300")
	wantClean(t, "too many connections", err)
}

// An error code can be had without the server's words.
func TestErrorCode(t *testing.T) {
	t.Parallel()
	_, p, db := start(t)
	_, err := db.Exec(t.Context(), "DROP TABLE coatcheck_records")
	must(t, err)
	_, err = p.Load(t.Context(), newName())
	var reply *pgconn.PgError
	if !errors.As(err, &reply) || reply.Code != "42P01" || reply.Message != "" || reply.Position != 0 {
		t.Errorf("error %v", err)
	}
}
