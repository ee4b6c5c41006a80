package sql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strconv"
	"strings"
	"time"
)

// check looks at the schema, and at how the database was opened.
func (s *sqlite) check(ctx context.Context) (state schemaState, err error) {
	err = s.call(ctx, func() error {
		state, err = s.look(ctx, s)
		return err
	})
	if err != nil {
		return schemaState{}, err
	}
	return state, s.warn(ctx)
}

func (s *sqlite) look(ctx context.Context, db querier) (state schemaState, err error) {
	var version string
	var file sql.NullString
	var schema, tables int
	if _, err := sqliteRow(ctx, db, s.sql.check, nil, &version, &file, &schema, &tables); err != nil {
		return state, err
	}
	switch {
	case !sqliteKnows(version):
		return state, &failure{text: "SQLite is too old: it must be of version 3.38 or newer", undone: true}
	case file.String == "" && s.db.Stats().MaxOpenConnections != 1:
		return state, &failure{text: "every connection would have a database of its own in memory: " +
			"open a file, or call SetMaxOpenConns(1)", undone: true}
	case schema == 0 || tables < 4:
		return schemaState{partial: tables > 0}, nil
	}
	found, err := sqliteRow(ctx, db, s.sql.version, nil, &state.version, &state.oldest)
	return schemaState{state.version, state.oldest, !found}, err
}

// sqliteKnows tells whether the version has what the statements need.
func sqliteKnows(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > 3 || major == 3 && minor >= 38)
}

// longestBusy is the longest busy_timeout, in milliseconds, without a warning.
const longestBusy = 1000

// warn tells once of settings that are worth a warning.
func (s *sqlite) warn(ctx context.Context) error {
	var journal string
	var synchronous, busy, onDisk int
	if _, err := s.read(ctx, s.sql.onDisk, nil, &onDisk); err != nil {
		return err
	}
	for pragma, into := range map[string]any{"journal_mode": &journal, "synchronous": &synchronous, "busy_timeout": &busy} {
		if _, err := s.read(ctx, "PRAGMA "+pragma, nil, into); err != nil {
			return err
		}
	}
	s.warned.Do(func() {
		switch {
		case onDisk == 0, journal == "wal":
		case journal == "memory", journal == "off":
			s.log.WarnContext(ctx, "coatcheck: SQLite keeps no journal on the disk, so that a process that is killed may damage the file: open it with journal_mode WAL",
				"journal_mode", journal)
		default:
			s.log.WarnContext(ctx, "coatcheck: SQLite has no write-ahead log, so that reads and writes wait for each other: open it with journal_mode WAL",
				"journal_mode", journal)
		}
		if synchronous == 0 && onDisk != 0 {
			s.log.WarnContext(ctx, "coatcheck: SQLite does not wait for the disk, so that a power failure may damage the file: open it with synchronous FULL")
		}
		if busy > longestBusy {
			s.log.WarnContext(ctx, "coatcheck: while SQLite waits for a lock, calls may go on after their context has ended: open it with a busy_timeout of 100",
				"busy_timeout", busy)
		}
	})
	return nil
}

// migrate applies what is missing, in one transaction.
func (s *sqlite) migrate(ctx context.Context) error {
	state, err := s.check(ctx)
	if err != nil {
		return err
	}
	if state.partial || state.version >= latest(s.all) {
		return state.usable(latest(s.all))
	}
	return s.inTurn(ctx, func() error { return s.migrateOnce(ctx) })
}

// migrateOnce keeps other processes out with the lock of the only writer, and then
// looks again: one of them may have been faster.
func (s *sqlite) migrateOnce(ctx context.Context) (err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer func() {
		if err != nil {
			rollBack(ctx, conn)
		}
	}()
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	state, err := s.look(ctx, conn)
	if err != nil {
		return err
	}
	if state.partial {
		return state.usable(latest(s.all))
	}
	for _, m := range s.all {
		if m.version <= state.version {
			continue
		}
		if _, err := conn.ExecContext(ctx, m.sql); err != nil { // of many statements, as it has no parameters
			return err
		}
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

// rollBack leaves the connection without a transaction, whatever became of it: a
// call that ends with its context may have begun one, and SQLite ends one by itself
// after some errors. What cannot be left so is not used again.
func rollBack(ctx context.Context, conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err == nil {
		return
	}
	_, err := conn.ExecContext(ctx, "BEGIN") // fails in a transaction
	if err == nil {
		_, err = conn.ExecContext(ctx, "ROLLBACK")
	}
	if err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}
