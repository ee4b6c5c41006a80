package testserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PostgresPair is a private primary and a standby that follows it, made by
// [StartPostgresPair] or [NewPostgresPair]. Its methods are safe for concurrent
// use.
//
// Replication is asynchronous: the primary acknowledges a commit that the standby
// does not have yet. Nobody watches the two: a test kills the primary and calls
// [PostgresPair.Promote], as the tools that people run beside PostgreSQL do.
type PostgresPair struct {
	// Primary and Standby are what they are called at first: after Promote, the
	// Standby is the primary. A Primary that is started again after that takes
	// writes as well, and they do not know of each other.
	Primary, Standby *Postgres

	stream *Proxy // what the standby reaches the primary through
}

// StartPostgresPair starts both with these lines of configuration, as
// [StartPostgres] does, and waits until the standby has caught up. The caller
// closes them.
func StartPostgresPair(config ...string) (*PostgresPair, error) {
	p := &PostgresPair{}
	ctx, cancel := context.WithTimeout(context.Background(), groupLimit)
	defer cancel()
	err := p.start(config)
	if err == nil {
		err = p.ResumeReplication(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// NewPostgresPair is [StartPostgresPair] for a test, which closes both when it
// ends.
func NewPostgresPair(t testing.TB, config ...string) *PostgresPair {
	t.Helper()
	return forTest(t, func() (*PostgresPair, error) { return StartPostgresPair(config...) })
}

// start has the standby reach the primary through a proxy from its first start on.
func (p *PostgresPair) start(config []string) (err error) {
	keep := []string{"wal_keep_size = 256MB"} // for a standby that was cut off
	if p.Primary, err = startPostgres(append(keep, config...)); err != nil {
		return err
	}
	if p.stream, err = StartProxy(p.Primary.Addr()); err != nil {
		return err
	}
	return p.startStandby(config)
}

// startStandby copies the primary through that proxy: the copy remembers where it
// comes from.
func (p *PostgresPair) startStandby(config []string) error {
	_, port, err := net.SplitHostPort(p.stream.Addr())
	if err != nil {
		return err
	}
	t, lines := p.Primary.template, append([]string{"wal_retrieve_retry_interval = 100ms"}, config...)
	p.Standby, err = t.start(lines, func(dir string) error { return t.copyFrom(dir, port) })
	return err
}

// URL is how a superuser connects to whichever of the two takes writes: pgx and
// libpq try one after the other (target_session_attrs=read-write) each time they
// make a connection. A pool keeps what it has: connections to a primary that was
// killed fail, once each, and are replaced. One that accepts connections and
// does not answer, as a paused one, holds them up unless connect_timeout is added.
// It has the password: do not print it.
func (p *PostgresPair) URL() string {
	return p.Primary.URLAt(p.Primary.Addr()+","+p.Standby.Addr()) + "&target_session_attrs=read-write"
}

// PauseReplication cuts the standby off, and returns when it has everything that
// was committed before the call and gets nothing any more. What is committed from
// then on is acknowledged by the primary, and lost with it:
//
//	PauseReplication, write, Primary.Kill, Promote
func (p *PostgresPair) PauseReplication(ctx context.Context) error {
	if err := p.catchUp(ctx); err != nil {
		return err
	}
	p.stream.Set(Fault{Cut: true}) //nolint:contextcheck // this opens nothing
	return nil
}

// ResumeReplication undoes [PostgresPair.PauseReplication], and returns when the
// standby follows the primary again and has what was committed before the call.
// The primary keeps 256 MB of changes for it.
func (p *PostgresPair) ResumeReplication(ctx context.Context) error {
	p.stream.Heal() //nolint:contextcheck // what it opens outlives the call
	err := await(ctx, "the standby does not connect", func(ctx context.Context) error {
		var connected bool
		err := p.Primary.query(ctx, `SELECT EXISTS (SELECT FROM pg_stat_replication
			WHERE state = 'streaming' AND application_name <> 'pg_basebackup')`, &connected)
		if err == nil && !connected {
			err = errors.New("it is not connected")
		}
		return err
	})
	if err != nil {
		return err
	}
	return p.catchUp(ctx)
}

// Promote makes the standby a primary, and returns when it takes writes. It has
// what had reached it: everything but the last commits, or what was committed
// before [PostgresPair.PauseReplication]. Call it after the primary was killed or
// cut off, or both take writes.
func (p *PostgresPair) Promote(ctx context.Context) error {
	err := p.Standby.query(ctx, "SELECT pg_promote(false)", new(bool))
	if err != nil {
		return fmt.Errorf("testserver: promote: %w", err)
	}
	return await(ctx, "the standby does not become a primary", func(ctx context.Context) error {
		var standby bool
		err := p.Standby.query(ctx, "SELECT pg_is_in_recovery()", &standby)
		if err == nil && standby {
			err = errors.New("it is still a standby")
		}
		return err
	})
}

// Close closes both servers. Calling it again does nothing.
func (p *PostgresPair) Close() error {
	var failed []error
	for _, s := range []*Postgres{p.Standby, p.Primary} {
		if s != nil {
			failed = append(failed, s.Close())
		}
	}
	if p.stream != nil {
		failed = append(failed, p.stream.Close())
	}
	return errors.Join(failed...)
}

// catchUp waits until the standby shows what the primary has just now.
func (p *PostgresPair) catchUp(ctx context.Context) error {
	var position string
	if err := p.Primary.query(ctx, "SELECT pg_current_wal_flush_lsn()::text", &position); err != nil {
		return fmt.Errorf("testserver: ask the primary: %w", err)
	}
	return await(ctx, "the standby does not catch up", func(ctx context.Context) error {
		var there string
		var caughtUp bool
		err := p.Standby.query(ctx, "SELECT pg_last_wal_replay_lsn()::text, pg_last_wal_replay_lsn() >= '"+
			position+"'::pg_lsn", &there, &caughtUp)
		if err == nil && !caughtUp {
			err = fmt.Errorf("it is at %s of %s", there, position)
		}
		return err
	})
}

// query reads one row.
func (s *Postgres) query(ctx context.Context, sql string, dest ...any) error {
	if !s.up() {
		return errDown
	}
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	err = conn.QueryRow(ctx, sql).Scan(dest...)
	return errors.Join(err, conn.Close(ctx))
}
