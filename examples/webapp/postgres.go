package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// sqlPrefix begins the names of the tables for tokens. Applications that share a
// schema need one of their own each.
const sqlPrefix = "coatcheck_example_"

const (
	// maxConns bounds the connections of this process. All processes together must
	// stay below the server's max_connections.
	maxConns = 16
	// tablesTimeout bounds how long it may take to make the tables.
	tablesTimeout = 10 * time.Second
	// goodbyeTimeout bounds how long the end waits for the server.
	goodbyeTimeout = time.Second
)

// openPostgres keeps both in one database, through one pool, encrypted with the
// keys of the file. It makes the tables. An application whose user in the database
// may not do that has somebody else call Migrate before; that it is called here too
// does no harm.
func openPostgres(ctx context.Context, cfg *config, keys *tokencache.Keys, log *slog.Logger) (_ *store, err error) {
	where, err := parsePostgresURL(cfg.postgresURL)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, where)
	if err != nil {
		return nil, err
	}
	at := where.ConnConfig
	defer func() {
		if err != nil {
			closePool(context.WithoutCancel(ctx), pool)
			err = fmt.Errorf("-postgres-url: PostgreSQL at %s: %w", addressOf(&at.Config), err)
		}
	}()
	making, cancel := context.WithTimeout(ctx, tablesTimeout)
	defer cancel()
	db := sqlprovider.Postgres(pool, &sqlprovider.Options{Prefix: sqlPrefix, Log: log})
	if err := db.Migrate(making); err != nil {
		return nil, err
	}
	provider, err := sqlprovider.New(making, db)
	if err != nil {
		return nil, err
	}
	sessions := &sqlSessions{db: stdlib.OpenDBFromPool(pool)}
	s := &store{
		provider: provider, sessions: newSealedSessions(sessions, keys.Seal, log), keys: keys,
		sweepers: []func(context.Context) error{sessions.sweep},
		release: func(ctx context.Context) error {
			defer closePool(ctx, pool)
			return sessions.db.Close()
		},
		place: fmt.Sprintf("in PostgreSQL at %s, database %s", addressOf(&at.Config), cmp.Or(at.Database, at.User)),
	}
	if err := sessions.prepare(making); err != nil {
		return nil, errors.Join(err, provider.Close(ctx), sessions.db.Close())
	}
	return s, nil
}

// closePool does not wait for a server that hangs: the driver would, for 15 s.
func closePool(ctx context.Context, pool *pgxpool.Pool) {
	ctx, cancel := context.WithTimeout(ctx, goodbyeTimeout)
	defer cancel()
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
}

// parsePostgresURL reads -postgres-url. Its errors show nothing of the text, which
// may hold a password; those of the packages that parse it would.
func parsePostgresURL(text string) (*pgxpool.Config, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "postgres" && u.Scheme != "postgresql", u.Hostname() == "":
		return nil, errors.New("-postgres-url: must be like postgres://user:password@127.0.0.1:5432/database, " +
			"with special characters of the password percent-encoded")
	case u.Fragment != "":
		return nil, errors.New("-postgres-url: takes no fragment; special characters of the password are percent-encoded")
	}
	c, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, errors.New("-postgres-url: a parameter after the question mark, or the file that one names, is not valid")
	}
	// What the driver is going to do counts: it takes parameters from the
	// environment too, and may have several servers to try.
	at := &c.ConnConfig.Config
	servers := append([]*pgconn.FallbackConfig{{Host: at.Host, TLSConfig: at.TLSConfig}}, at.Fallbacks...)
	for _, s := range servers {
		verified := s.TLSConfig != nil && !s.TLSConfig.InsecureSkipVerify
		if !verified && !isLoopback(s.Host) && !strings.HasPrefix(s.Host, "/") { // a Unix socket
			return nil, errors.New("-postgres-url: must say sslmode=verify-full beyond this machine, as passwords and sessions travel to it")
		}
	}
	withDefaults(c, u.Query())
	return c, nil
}

// withDefaults sets what the URL does not. Calls end with their contexts; making a
// connection goes on without one, and so has a time of its own.
func withDefaults(c *pgxpool.Config, given url.Values) {
	if !given.Has("pool_max_conns") {
		c.MaxConns = maxConns
	}
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = answerTimeout
	}
	if params := c.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = "coatcheck-example" // in pg_stat_activity
	}
}

func addressOf(c *pgconn.Config) string {
	return net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
}
