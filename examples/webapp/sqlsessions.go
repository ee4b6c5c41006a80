package main

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// sqlSessions keeps sessions in a table. The stores of scs for SQL take no context:
// a database that hangs would hold up their callers for as long as it likes.
type sqlSessions struct{ db *sql.DB }

// prepare makes the table, unless it is there: whoever may not make one may be
// allowed to use it. When two processes do this at once, one of them fails, and
// finds what the other has made.
func (s *sqlSessions) prepare(ctx context.Context) error {
	if s.check(ctx) == nil {
		return nil
	}
	if err := s.create(ctx); err != nil && s.check(ctx) != nil {
		return err
	}
	return nil
}

func (s *sqlSessions) check(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, "SELECT token, data, expiry FROM example_sessions WHERE 1 = 0")
	return err
}

func (s *sqlSessions) create(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // it does nothing after Commit
	for _, statement := range []string{
		// Both PostgreSQL and SQLite have these. Times are milliseconds since 1970.
		"CREATE TABLE example_sessions (token text PRIMARY KEY, data bytea NOT NULL, expiry bigint NOT NULL)",
		"CREATE INDEX example_sessions_expiry ON example_sessions (expiry)",
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func now() int64 { return time.Now().UnixMilli() }

// FindCtx is that of [sessionRecords], as are the others.
func (s *sqlSessions) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT data FROM example_sessions WHERE token = $1 AND expiry > $2", token, now()).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return data, err == nil, err
}

func (s *sqlSessions) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO example_sessions (token, data, expiry) VALUES ($1, $2, $3) "+
		"ON CONFLICT (token) DO UPDATE SET data = excluded.data, expiry = excluded.expiry", token, data, expiry.UnixMilli())
	return err
}

func (s *sqlSessions) DeleteCtx(ctx context.Context, token string) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM example_sessions WHERE token = $1", token)
	return err
}

func (s *sqlSessions) AllCtx(ctx context.Context) (map[string][]byte, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT token, data FROM example_sessions WHERE expiry > $1", now())
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	all := map[string][]byte{}
	for rows.Next() {
		var token string
		var data []byte
		if err := rows.Scan(&token, &data); err != nil {
			return nil, err
		}
		all[token] = data
	}
	return all, rows.Err()
}

// sweep removes the sessions that are over.
func (s *sqlSessions) sweep(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM example_sessions WHERE expiry <= $1", now())
	return err
}
