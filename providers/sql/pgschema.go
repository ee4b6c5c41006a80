package sql

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coatcheck-go/coatcheck/internal/background"
)

// check looks at the schema with one query: the first one, unless there is a table
// that tells the version.
func (p *postgres) check(ctx context.Context) (s schemaState, err error) {
	err = p.call(ctx, repeatable, func(db PgxDB) error {
		s, err = p.look(ctx, db)
		return err
	})
	return s, err
}

// look looks which tables there are before it reads one: a statement that names a
// missing table would end a transaction of the caller.
func (p *postgres) look(ctx context.Context, db PgxDB) (schemaState, error) {
	var there [4]bool
	var standby bool
	var started int64
	err := db.QueryRow(ctx, p.sql.check).Scan(&there[0], &there[1], &there[2], &there[3], &standby, &started)
	if err != nil {
		return schemaState{}, err
	}
	if standby {
		return schemaState{}, errStandby
	}
	p.server.seen(started)
	count := 0
	for _, t := range there {
		if t {
			count++
		}
	}
	if count < len(there) {
		return schemaState{partial: count > 0}, nil
	}
	var s schemaState
	err = db.QueryRow(ctx, "SELECT version, oldest FROM "+p.prefix+"schema").Scan(&s.version, &s.oldest)
	if errors.Is(err, pgx.ErrNoRows) {
		return schemaState{partial: true}, nil
	}
	return s, err
}

const (
	// lockLimit bounds how long a change of a table waits for transactions that
	// use it, because everyone else waits behind it.
	lockLimit = "1s"
	// lockPause is the pause after it was over.
	lockPause = time.Second
)

// migrate applies what is missing, in one transaction.
func (p *postgres) migrate(ctx context.Context) error {
	for {
		s, err := p.check(ctx) // which needs no rights
		if err != nil {
			return err
		}
		if s.partial || s.version >= latest(p.all) {
			return s.usable(latest(p.all))
		}
		err = p.call(ctx, repeatable, func(db PgxDB) error { return p.migrateOnce(ctx, db) })
		var reply *pgconn.PgError
		if p.inTx || !errors.As(err, &reply) || reply.Code != "55P03" || !background.Sleep(ctx, lockPause) {
			return err
		}
	}
}

// migrateOnce runs the transaction. At a higher isolation level it would not see
// what it has waited for.
func (p *postgres) migrateOnce(ctx context.Context, db PgxDB) error {
	var tx pgx.Tx
	var err error
	switch db := db.(type) {
	case interface {
		BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
	}:
		tx, err = db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	case interface {
		Begin(ctx context.Context) (pgx.Tx, error)
	}:
		tx, err = db.Begin(ctx)
	default:
		return &failure{text: "this connection cannot begin a transaction: apply Database.Schema with a tool of your own", undone: true}
	}
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // of what was not committed
	if err := p.apply(ctx, tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// apply keeps other machines out with a lock that ends with the transaction, and
// then looks again: one of them may have been faster.
func (p *postgres) apply(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.' || $1::text, 0))", p.prefix)
	if err != nil {
		return err
	}
	s, err := p.look(ctx, tx)
	if err == nil && s.partial {
		err = s.usable(latest(p.all))
	}
	if err != nil {
		return err
	}
	if !p.inTx {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockLimit+"'"); err != nil {
			return err
		}
	}
	for _, m := range p.all {
		if m.version <= s.version {
			continue
		}
		if _, err := tx.Exec(ctx, m.sql); err != nil { // of many statements, as it has no parameters
			return err
		}
	}
	return nil
}
