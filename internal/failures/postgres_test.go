package failures_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestPostgres(t *testing.T) {
	const brief, long = 3 * time.Second, 8 * time.Second
	slow := func(d time.Duration) func(*testing.T) *site { return pgProxied(defaults, testserver.Fault{Delay: d}) }
	testFailures(t, 2, []failure{
		{name: "none, for comparison", start: pgProxied(defaults, testserver.Fault{}), lasts: brief},
		{name: "hung (SIGSTOP)", start: pgHung, lasts: long},
		{name: "cut", start: pgProxied(defaults, testserver.Fault{Cut: true}), lasts: long},
		{name: "slow, 100 ms each way", start: slow(100 * time.Millisecond), lasts: brief},
		{name: "slow, 400 ms each way", start: slow(400 * time.Millisecond), lasts: brief},
		{name: "connections half open", start: pgProxied(defaults, testserver.Fault{HalfOpen: true}), recovers: 2 * time.Second},
		{name: "all replies lost", start: pgProxied(defaults, testserver.Fault{DropReplies: true}), lasts: brief},
		{name: "shut down", start: pgDown((*testserver.Postgres).Stop), lasts: brief},
		{name: "killed", start: pgDown((*testserver.Postgres).Kill), lasts: brief},
		{name: "read-only", start: pgReadOnly, lasts: brief},
		{name: "out of connections", start: pgCrowded, lasts: brief},
		{name: "a pool of one connection", start: pgProxied(single, testserver.Fault{}), lasts: brief},
		{name: "switched over", start: pgFailover((*testserver.Postgres).Stop), lasts: brief},
		{name: "failed over", start: pgFailover((*testserver.Postgres).Kill), lasts: brief},
		{name: "failed over, writes lost", start: pgForgetful(false), lasts: brief},
		{name: "the same with Listen", start: pgForgetful(true), lasts: brief},
	})
}

func TestPostgresReplyLost(t *testing.T) {
	testReplyLost(t, func(t *testing.T) *line {
		server := testserver.NewPostgres(t)
		migrate(t, server.URL())
		return &line{
			addr:    server.Addr(),
			connect: pgConnect(server.URL(), defaults, nil),
			through: func(t *testing.T, addr string, dial dialer) tokencache.Provider {
				return pgConnect(server.URLAt(addr), func(c *pgxpool.Config) {
					c.MaxConns = 1
					c.ConnConfig.DialFunc = pgconn.DialFunc(dial)
					// Or it would be the reply to something else that is lost.
					c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
					c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
				}, nil)(t)
			},
		}
	})
}

// poolConfig changes the configuration of a pool.
type poolConfig func(*pgxpool.Config)

// defaults are pgxpool's own, with 4 connections on a small machine.
func defaults(*pgxpool.Config) {}

// single is a pool of one connection.
func single(c *pgxpool.Config) { c.MaxConns = 1 }

// pgConnect makes providers with a pool each.
func pgConnect(url string, change poolConfig, o *sqlprovider.Options) func(*testing.T) tokencache.Provider {
	return func(t *testing.T) tokencache.Provider {
		t.Helper()
		config, err := pgxpool.ParseConfig(url)
		must(t, err)
		change(config)
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		must(t, err)
		t.Cleanup(pool.Close)
		if o == nil {
			o = &sqlprovider.Options{}
		}
		o.Log = slog.New(slog.DiscardHandler)
		p, err := sqlprovider.New(t.Context(), sqlprovider.Postgres(pool, o))
		must(t, err)
		t.Cleanup(func() {
			if err := p.Close(context.Background()); err != nil {
				t.Error("Close:", err)
			}
		})
		return p
	}
}

// migrate makes the tables.
func migrate(t *testing.T, url string) {
	t.Helper()
	conn := pgAdmin(t, url)
	must(t, sqlprovider.Postgres(conn, nil).Migrate(t.Context()))
}

// pgAdmin is a connection of the test's own.
func pgAdmin(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// pgProxied is a server behind a proxy that has the fault.
func pgProxied(change poolConfig, f testserver.Fault) func(*testing.T) *site {
	return func(t *testing.T) *site {
		server := testserver.NewPostgres(t)
		migrate(t, server.URL())
		proxy := testserver.NewProxy(t, server.Addr())
		return &site{
			connect: pgConnect(server.URLAt(proxy.Addr()), change, nil),
			fail:    func(context.Context) error { proxy.Set(f); return nil },
			heal:    func(context.Context) error { proxy.Heal(); return nil },
		}
	}
}

func pgHung(t *testing.T) *site {
	server := testserver.NewPostgres(t)
	migrate(t, server.URL())
	return &site{
		connect: pgConnect(server.URL(), defaults, nil),
		fail:    func(context.Context) error { return server.Pause() },
		heal:    func(context.Context) error { return server.Resume() },
	}
}

// pgDown is a server that is ended, and started again.
func pgDown(end func(*testserver.Postgres) error) func(*testing.T) *site {
	return func(t *testing.T) *site {
		server := testserver.NewPostgres(t)
		migrate(t, server.URL())
		return &site{
			connect: pgConnect(server.URL(), defaults, nil),
			fail:    func(context.Context) error { return end(server) },
			heal:    func(context.Context) error { return server.Start() },
		}
	}
}

// pgReadOnly is a server that takes no writes, as one that somebody looks after.
func pgReadOnly(t *testing.T) *site {
	server := testserver.NewPostgres(t)
	migrate(t, server.URL())
	conn := pgAdmin(t, server.URL())
	set := func(value string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := conn.Exec(ctx, "ALTER SYSTEM SET default_transaction_read_only = "+value)
			if err == nil {
				_, err = conn.Exec(ctx, "SELECT pg_reload_conf()")
			}
			return err
		}
	}
	return &site{connect: pgConnect(server.URL(), defaults, nil), fail: set("on"), heal: set("off")}
}

// pgCrowded is a server all of whose connections others take.
func pgCrowded(t *testing.T) *site {
	server := testserver.NewPostgres(t, "max_connections = 20")
	migrate(t, server.URL())
	owner := pgAdmin(t, server.URL())
	var others []*pgx.Conn
	leave := func(ctx context.Context) (err error) {
		for _, conn := range others {
			err = errors.Join(err, conn.Close(ctx))
		}
		others = nil
		return err
	}
	t.Cleanup(func() { _ = leave(context.Background()) })
	// take takes those that are free.
	take := func(ctx context.Context) error {
		for {
			conn, err := pgx.Connect(ctx, server.URL()+"&application_name=others")
			var reply *pgconn.PgError
			switch {
			case errors.As(err, &reply) && reply.Code == "53300":
				return nil
			case err != nil:
				return err
			}
			others = append(others, conn)
		}
	}
	return &site{
		connect: pgConnect(server.URL(), defaults, nil),
		fail: func(ctx context.Context) error {
			for quiet := 0; quiet < 3; quiet++ { // the machines connect again, too
				var ended int
				err := owner.QueryRow(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
					WHERE backend_type = 'client backend' AND application_name <> 'others' AND pid <> pg_backend_pid()`).Scan(&ended)
				if err == nil {
					err = take(ctx)
				}
				if err != nil {
					return err
				}
				if ended > 0 {
					quiet = -1
				}
				wait(ctx, 20*time.Millisecond) // who has a connection now shows then
			}
			return nil
		},
		heal: leave,
	}
}

// pgFailover is a primary that is ended, and whose standby takes its place.
func pgFailover(end func(*testserver.Postgres) error) func(*testing.T) *site {
	return func(t *testing.T) *site {
		pair := testserver.NewPostgresPair(t)
		migrate(t, pair.URL())
		return &site{
			connect: pgConnect(pair.URL(), defaults, nil),
			fail:    func(context.Context) error { return end(pair.Primary) },
			heal:    pair.Promote,
		}
	}
}

// pgForgetful is a failover to a standby that has nothing of what was written, and
// acknowledged, since the failure began.
func pgForgetful(listen bool) func(*testing.T) *site {
	return func(t *testing.T) *site {
		pair := testserver.NewPostgresPair(t)
		migrate(t, pair.URL())
		o := &sqlprovider.Options{}
		if listen {
			o.Listen = func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, pair.URL()) }
		}
		return &site{
			connect: pgConnect(pair.URL(), defaults, o),
			fail:    pair.PauseReplication,
			heal: func(ctx context.Context) error {
				if err := pair.Primary.Kill(); err != nil {
					return fmt.Errorf("the primary: %w", err)
				}
				return pair.Promote(ctx)
			},
		}
	}
}
