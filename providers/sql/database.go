package sql

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Database is where a [Provider] keeps its tables. [Postgres] and [SQLite] make
// one. It is safe for concurrent use, and holds nothing that needs closing.
type Database struct {
	dialect dialect
	options Options
	err     error // what is wrong with the options
}

// PgxDB is what [Postgres] works on: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx of
// pgx v5, or what wraps one of them.
type PgxDB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Postgres is a PostgreSQL database, of version 14 or newer, through a connection
// that stays the caller's. It does not connect by itself. The tables are found by
// the connection's search_path, and made in its first schema.
//
// A pool is the usual thing. Of a *pgxpool.Pool itself, a connection on which a call
// was late is closed within a second, for which pgx may take 15. One connection does as well, a *pgx.Conn, a
// *pgxpool.Conn or a pgx.Tx: calls then wait for each other, and nobody else may
// use it meanwhile. Once a call was cut short, pgx closes it, so that a
// *pgx.Conn is for tools and tests. In a transaction, what is saved is there when
// that commits; until then, others who save for the same users wait for it.
// There it offers neither leases nor watching nor sweeping, and repeats nothing.
// What wraps a connection or a transaction must have its other methods as well, as
// one that embeds it has, or it is taken for a pool.
//
// Any mode of pgx.QueryExecMode will do, and any isolation level. All of it must
// reach the primary: a standby answers with what is a moment old.
func Postgres(db PgxDB, o *Options) *Database {
	opts, err := o.withDefaults()
	if db == nil {
		err = errors.New("sql: a connection to the database is required")
	}
	if err != nil {
		return &Database{err: err}
	}
	return &Database{dialect: newPostgres(db, &opts), options: opts}
}

// Schema returns the SQL that makes all the tables, for those who apply it with a
// tool of their own instead of [Database.Migrate]. It is to be applied once, in a
// transaction.
func (d *Database) Schema() (string, error) {
	if d.err != nil {
		return "", d.err
	}
	var all []string
	for _, m := range d.dialect.schema() {
		all = append(all, strings.TrimSpace(m.sql)+"\n")
	}
	return strings.Join(all, "\n"), nil
}

// Migrate makes the tables, or brings those of an earlier version up to date. It
// may run on every machine at once, and does nothing if there is nothing to do.
// Applications that are running go on: an earlier version keeps working with the
// tables of the next, so that one migrates first and then replaces the machines.
// Users whom New and the other calls have need no right to create tables.
func (d *Database) Migrate(ctx context.Context) error {
	if d.err != nil {
		return d.err
	}
	return d.dialect.migrate(ctx)
}
