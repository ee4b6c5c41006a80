package sql

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/background"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// SQLite is an SQLite database, of version 3.38 or newer, through a handle that
// stays the caller's. Any driver of database/sql does, and none is imported here;
// the tests use modernc.org/sqlite. All machines that share the users must be
// processes of one computer, and the file on a disk of that computer: SQLite does
// not keep processes apart across a network.
//
// With modernc.org/sqlite, open it so:
//
//	db, err := sql.Open("sqlite", "file:coatcheck.db?"+
//		"_pragma=busy_timeout(100)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
//	db.SetMaxOpenConns(8)
//	db.SetMaxIdleConns(8)
//
// The write-ahead log lets readers and the writer go on beside each other. Without
// it they wait for each other, and a warning is logged; with no busy_timeout either,
// a writer may not get in at all while others read. With synchronous FULL, what
// was saved survives that the power fails, at the price of waiting for the disk at
// each save. NORMAL does not wait, and then forgets the last saves before such a
// failure: a refresh token that the server has replaced meanwhile is lost with its
// save, and its user has to sign in again. When a process crashes, or is killed,
// neither loses anything. OFF may damage the file, as may the journal modes OFF and
// MEMORY when a process is killed, and a warning is logged.
//
// A few open connections do, as the processor is what they share; one is enough,
// and then reads wait for writes as well. If fewer may be idle than open, they are
// opened and closed all the time.
//
// There is one writer at a time. The writers of one Database wait in line for each
// other, those of other processes ask again after a moment, at most until the
// context ends. A short busy_timeout leaves that to the provider: while SQLite
// itself waits for a lock, some drivers do not look at the context, so that a call
// may outlast its own by that time. One above a second is warned of.
//
// On a full disk, what is stored can be read. Whether it can be changed, or a user be
// signed out, depends on whether the write-ahead log has room left in its file; if
// not, the error says so.
//
// Make one Database of a handle: its statements stay prepared until that is closed.
//
// A database in memory is one per connection, and needs SetMaxOpenConns(1), or it is
// refused. It is gone with its connection, so set no limit to the life of that, nor
// to how long it may be idle.
func SQLite(db *sql.DB, o *Options) *Database {
	opts, err := o.withDefaults()
	switch {
	case db == nil:
		err = errors.New("sql: a handle of the database is required")
	case opts.Listen != nil && err == nil:
		err = errors.New("sql: Options.Listen is for PostgreSQL only")
	}
	if err != nil {
		return &Database{err: err}
	}
	return &Database{dialect: newSQLite(db, &opts), options: opts}
}

// sqlite is the dialect of SQLite.
type sqlite struct {
	db     *sql.DB
	prefix string
	log    *slog.Logger
	sql    *sqliteStatements
	all    []migration

	// turn is held by the one call that writes. Without it, those of this process
	// would get in each other's way, and SQLite does not let them in by their order.
	turn   chan struct{}
	room   atomic.Int64 // when room could not be made, in milliseconds since 1970
	warned sync.Once

	prepared sync.Map // *sql.Stmt by their text; the handle ends them
}

func newSQLite(db *sql.DB, o *Options) *sqlite {
	return &sqlite{
		db: db, prefix: o.Prefix, log: o.Log, turn: make(chan struct{}, 1),
		sql: newSQLiteStatements(o.Prefix), all: migrations("sqlite", o.Prefix),
	}
}

func (s *sqlite) schema() []migration { return s.all }

// offers everything but to be Punctual: a disk that hangs is waited for.
func (s *sqlite) offers(to *Provider) tokencache.Capabilities {
	return tokencache.Capabilities{Leaser: to, Toucher: to, Owners: to, Watcher: to, Sweeper: to, Pinger: to, Lister: to}
}

// read runs a statement of one row that changes nothing, and tells whether there
// was one.
func (s *sqlite) read(ctx context.Context, query string, args []any, into ...any) (found bool, err error) {
	err = s.call(ctx, func() error {
		found, err = sqliteRow(ctx, s, query, args, into...)
		return err
	})
	return found && err == nil, err
}

// write runs a statement that changes something, and answers with one row if it
// has.
func (s *sqlite) write(ctx context.Context, query string, args ...any) (changed bool, err error) {
	err = s.inTurn(ctx, func() error {
		var one int
		changed, err = sqliteRow(ctx, s, query, args, &one)
		return err
	})
	return changed && err == nil, err
}

// querier runs statements: prepared ones of a dialect, or on one connection.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// QueryContext prepares each statement once: to parse it takes longer than to find
// a record.
func (s *sqlite) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, found := s.prepared.Load(query)
	if !found {
		mine, err := s.db.PrepareContext(ctx, query)
		if err != nil {
			return nil, err
		}
		if stmt, found = s.prepared.LoadOrStore(query, mine); found {
			defer func() { _ = mine.Close() }() // another call was faster
		}
	}
	return stmt.(*sql.Stmt).QueryContext(ctx, args...) //nolint:sqlclosecheck // the handle ends its statements, and the caller closes the rows
}

func sqliteRow(ctx context.Context, db querier, query string, args []any, into ...any) (found bool, err error) {
	err = sqliteRows(ctx, db, query, args, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(into...)
	})
	return found, err
}

// sqliteRows reads to the end, since it is only there that SQLite commits, and
// tells whether it could.
func sqliteRows(ctx context.Context, db querier, query string, args []any, each func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return rows.Close()
}

// inTurn makes a call that writes.
func (s *sqlite) inTurn(ctx context.Context, f func() error) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return &failure{text: "no answer in time: other calls of this process are writing", err: ctx.Err(), undone: true}
	}
	defer func() { <-s.turn }()
	return s.call(ctx, f)
}

// call makes a call of the driver as often as it takes, and returns its error in
// our words. What found the database locked has not been carried out, and is tried
// again until ctx ends. What found the disk full is, if room can be made.
func (s *sqlite) call(ctx context.Context, f func() error) error {
	full := false
	for try := 1; ; try++ {
		err := f()
		if err == nil {
			return nil
		}
		switch code := sqliteCode(err); {
		case ctx.Err() != nil:
			return sqliteError(ctx, err)
		case sqliteLocked(code):
			if !background.Sleep(ctx, pause(try)) {
				return sqliteError(ctx, err)
			}
		case code&0xff == sqliteFull && !full && s.makeRoom(ctx):
			full = true
		default:
			return sqliteError(ctx, err)
		}
	}
}

// roomPause is how long nobody tries to make room after that has failed.
const roomPause = time.Second

// makeRoom moves what is in the write-ahead log to its place in the file, so that
// the log begins anew in the room that it has. SQLite does so by itself after
// commits, of which there are none any more when the log cannot grow. What was
// stored before can then be changed, and users be signed out, on a disk that others
// have filled.
func (s *sqlite) makeRoom(ctx context.Context) bool {
	now := time.Now().UnixMilli()
	if now-s.room.Load() < roomPause.Milliseconds() {
		return false
	}
	var busy, pages, moved int
	found, err := sqliteRow(ctx, s.db, "PRAGMA wal_checkpoint(PASSIVE)", nil, &busy, &pages, &moved)
	if made := err == nil && found && moved > 0 && moved == pages; made {
		return true
	}
	s.room.Store(now)
	return false
}

func (s *sqlite) ping(ctx context.Context) error {
	var version int
	_, err := s.read(ctx, s.sql.ping, nil, &version)
	return err
}
