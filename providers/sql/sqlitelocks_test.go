package sql_test

import (
	"context"
	stdsql "database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// locked has another connection hold the lock of the writer until the function is
// called.
func locked(t *testing.T, file string) (release func()) {
	t.Helper()
	conn, err := handle(t, file, 1).Conn(t.Context())
	must(t, err)
	_, err = conn.ExecContext(t.Context(), "PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE") // others may write just now
	must(t, err)
	release = sync.OnceFunc(func() {
		_, err := conn.ExecContext(context.Background(), "ROLLBACK")
		must(t, err)
		must(t, conn.Close())
	})
	t.Cleanup(release)
	return release
}

// While another process holds the lock, reads go on, and writes wait for it until
// their context ends, however long or short SQLite itself waits, and are carried out
// if that is not before it has gone.
func TestWaitForLock(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"as documented": recommended,
		"no waiting":    "_pragma=journal_mode(WAL)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, file, n, r := t.Context(), newFile(t), newName(), record("before")
			p := newProvider(t, sqlprovider.SQLite(handle(t, file, 4, settings), nil))
			must(t, p.Save(ctx, n, r, tokencache.Condition{}))
			release := locked(t, file)
			calls := map[string]func(context.Context) error{
				"Save": func(ctx context.Context) error {
					return p.Save(ctx, n, record("late"), tokencache.IfVersion(r.Version))
				},
				"tombstone": func(ctx context.Context) error { return p.Save(ctx, n, tombstone(), tokencache.Always()) },
				"Touch":     func(ctx context.Context) error { return p.Touch(ctx, n, r.Version, time.Now()) },
				"SetMark": func(ctx context.Context) error {
					return p.SetMark(ctx, n.Owner, tokencache.NewVersion(), time.Now().Add(time.Hour))
				},
				"Acquire": func(ctx context.Context) error { _, err := p.Acquire(ctx, n, time.Hour); return err },
				"Sweep":   func(ctx context.Context) error { _, err := p.Sweep(ctx); return err },
			}
			var wg sync.WaitGroup // all at once: they wait in line
			for what, f := range calls {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
					defer cancel()
					start := time.Now()
					err := f(ctx)
					if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 2*time.Second {
						t.Errorf("%s: after %v, error %v", what, took, err)
					}
					if err != nil && !strings.Contains(err.Error(), "lock") && !strings.Contains(err.Error(), "are writing") {
						t.Errorf("%s does not tell what it has waited for: %v", what, err)
					}
				})
			}
			wg.Wait()
			if got, err := p.Load(ctx, n); err != nil || got.Version != r.Version || got.Mark != (tokencache.Version{}) {
				t.Errorf("a read beside the lock: version %v, error %v", got.Version, err)
			}
			saved := make(chan error, 1)
			go func() { saved <- p.Save(ctx, n, record("in time"), tokencache.IfVersion(r.Version)) }()
			time.Sleep(300 * time.Millisecond)
			release()
			must(t, <-saved)
			eventually(t, 10*time.Second, "the lease that was given up is free", func() bool {
				lease, err := p.Acquire(ctx, n, time.Minute)
				return err == nil && lease.Release(ctx) == nil
			})
		})
	}
}

// A migration that is given up leaves its connection without a transaction.
func TestMigrateGivenUp(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	db := handle(t, file, 1)
	for after := time.Duration(0); after < 6*time.Millisecond; after += 100 * time.Microsecond {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		_ = sqlprovider.SQLite(db, &sqlprovider.Options{Prefix: newPrefix()}).Migrate(ctx)
		cancel()
		execute(t, db, "", "BEGIN IMMEDIATE") // fails in a transaction, and if there is one elsewhere
		execute(t, db, "", "ROLLBACK")
	}
	// Also when it has to wait for the lock.
	release := locked(t, file)
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	if err := sqlprovider.SQLite(db, nil).Migrate(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Migrate beside a lock: %v", err)
	}
	release()
	newProvider(t, sqlprovider.SQLite(db, nil))
	sound(t, db)
}

// Many calls of one process are let in by their order, so that none waits for long.
func TestWritersInLine(t *testing.T) {
	t.Parallel()
	p := newProvider(t, sqlprovider.SQLite(handle(t, newFile(t), 8, "_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"), nil))
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 10 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				if err := p.Save(ctx, newName(), record(contents()), tokencache.Condition{}); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

// What is opened in a way that loses data is refused, or told of.
func TestSQLiteSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		open         func(*testing.T) *stdsql.DB
		refused, log string
	}{
		"as documented": {open: func(t *testing.T) *stdsql.DB { return handle(t, newFile(t), 4) }},
		"normal": {open: func(t *testing.T) *stdsql.DB {
			return handle(t, newFile(t), 4, "_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
		}},
		"rollback log":      {open: func(t *testing.T) *stdsql.DB { return handle(t, newFile(t), 4, "_pragma=busy_timeout(100)") }, log: "write-ahead log"},
		"journal in memory": {open: func(t *testing.T) *stdsql.DB { return handle(t, newFile(t), 4, "_pragma=journal_mode(MEMORY)") }, log: "may damage the file"},
		"no journal":        {open: func(t *testing.T) *stdsql.DB { return handle(t, newFile(t), 4, "_pragma=journal_mode(OFF)") }, log: "may damage the file"},
		"no waiting": {open: func(t *testing.T) *stdsql.DB {
			return handle(t, newFile(t), 4, "_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
		}, log: "does not wait for the disk"},
		"long waiting": {open: func(t *testing.T) *stdsql.DB {
			return handle(t, newFile(t), 4, "_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
		}, log: "calls may go on"},
		"memory":         {open: func(t *testing.T) *stdsql.DB { return handle(t, ":memory:", 1, "") }},
		"memories":       {open: func(t *testing.T) *stdsql.DB { return handle(t, ":memory:", 2, "") }, refused: "SetMaxOpenConns(1)"},
		"shared memory":  {open: func(t *testing.T) *stdsql.DB { return handle(t, newPrefix(), 0, "mode=memory&cache=shared") }, refused: "SetMaxOpenConns(1)"},
		"temporary file": {open: func(t *testing.T) *stdsql.DB { return handle(t, "", 0, "") }, refused: "SetMaxOpenConns(1)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &journal{}
			db := sqlprovider.SQLite(test.open(t), &sqlprovider.Options{Log: log.logger()})
			wantText(t, "Migrate", db.Migrate(t.Context()), test.refused)
			wantText(t, "New", newError(t.Context(), db), test.refused)
			want := 0
			if test.log != "" {
				want = 1
			}
			if log.count("level=WARN") != want || log.count(test.log) < want {
				t.Errorf("%d warnings, and %d of the one wanted", log.count("level=WARN"), log.count(test.log))
			}
		})
	}
}
