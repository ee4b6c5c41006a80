package sql_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestNewRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		db   *sqlprovider.Database
		want string
	}{
		"no database":    {nil, "Database is required"},
		"no connection":  {sqlprovider.Postgres(nil, nil), "connection to the database is required"},
		"capitals":       {sqlprovider.Postgres(&pgx.Conn{}, &sqlprovider.Options{Prefix: "Auth_"}), "Prefix"},
		"digit first":    {sqlprovider.Postgres(&pgx.Conn{}, &sqlprovider.Options{Prefix: "1_"}), "Prefix"},
		"quote":          {sqlprovider.Postgres(&pgx.Conn{}, &sqlprovider.Options{Prefix: `a"; drop table users; --`}), "Prefix"},
		"brace":          {sqlprovider.Postgres(&pgx.Conn{}, &sqlprovider.Options{Prefix: "{p}"}), "Prefix"},
		"another schema": {sqlprovider.Postgres(&pgx.Conn{}, &sqlprovider.Options{Prefix: "auth.coatcheck_"}), "Prefix"},
		"too long":       {sqlprovider.Postgres(&pgx.Conn{}, &sqlprovider.Options{Prefix: strings.Repeat("x", 33)}), "Prefix"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := sqlprovider.New(t.Context(), test.db)
			if err == nil || !strings.Contains(err.Error(), test.want) || p != nil {
				t.Errorf("provider %v, error %v, want %q", p != nil, err, test.want)
			}
			if test.db == nil {
				return
			}
			if err := test.db.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Migrate: %v, want %q", err, test.want)
			}
			if _, err := test.db.Schema(); err == nil {
				t.Error("Schema: no error")
			}
		})
	}
}

// New tells what is wrong with a schema and what to do, and changes nothing.
func TestSchemaStates(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		then string // after the migration; "" for none
		want string // of New, "" for no error
		migr string // of Migrate, afterwards
	}{
		"none":            {"", "call Database.Migrate", ""},
		"there":           {"SELECT 1", "", ""},
		"table dropped":   {"DROP TABLE {p}leases", "incomplete", "incomplete"},
		"only a table":    {"DROP TABLE {p}schema, {p}leases, {p}owners", "incomplete", "incomplete"},
		"no version":      {"DELETE FROM {p}schema", "incomplete", "incomplete"},
		"version dropped": {"DROP TABLE {p}schema", "incomplete", "incomplete"},
		"older":           {"UPDATE {p}schema SET version = 0", "there is no schema", "42P07"},
		"newer, usable":   {"UPDATE {p}schema SET version = 7", "", ""},
		"newer":           {"UPDATE {p}schema SET version = 7, oldest = 5", "newer (version 7)", "newer (version 7)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, c, o := t.Context(), conn(t, sharedURL(t)), &sqlprovider.Options{Prefix: newPrefix()}
			db := sqlprovider.Postgres(c, o)
			if test.then != "" {
				must(t, db.Migrate(ctx))
				_, err := c.Exec(ctx, strings.ReplaceAll(test.then, "{p}", o.Prefix))
				must(t, err)
			}
			wantText(t, "New", newError(ctx, db), test.want)
			wantText(t, "Migrate", db.Migrate(ctx), test.migr)
			if test.migr == "" {
				wantText(t, "New, after Migrate", newError(ctx, db), "")
			}
		})
	}
}

func newError(ctx context.Context, db *sqlprovider.Database) error {
	p, err := sqlprovider.New(ctx, db)
	if err == nil {
		err = p.Close(ctx)
	}
	return err
}

func wantText(t *testing.T, what string, err error, want string) {
	t.Helper()
	if want == "" && err == nil || want != "" && err != nil && strings.Contains(err.Error(), want) {
		return
	}
	t.Errorf("%s: error %v, want %q", what, err, want)
}

// The exported SQL makes what Migrate makes.
func TestSchemaByHand(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), conn(t, sharedURL(t))
	db := sqlprovider.Postgres(c, &sqlprovider.Options{Prefix: newPrefix()})
	text, err := db.Schema()
	must(t, err)
	_, err = c.Exec(ctx, text)
	must(t, err)
	must(t, db.Migrate(ctx)) // has nothing to do
	p := newProvider(t, db)
	must(t, everything(t, p))
}

// Many machines migrate at once, at every isolation level, from nothing and from
// the version before, and wait for each other.
func TestMigrateByMany(t *testing.T) {
	t.Parallel()
	for _, level := range levels {
		o := &sqlprovider.Options{Prefix: newPrefix()}
		for _, more := range []bool{false, true} {
			var wg sync.WaitGroup
			for range 8 {
				db := sqlprovider.Postgres(pool(t, sharedURL(t), parameter("default_transaction_isolation", string(level))), o)
				if more {
					sqlprovider.AddMigration(db, "ALTER TABLE {p}records ADD COLUMN note text; UPDATE {p}schema SET version = 2")
				}
				wg.Go(func() {
					if err := errors.Join(db.Migrate(t.Context()), newError(t.Context(), db)); err != nil {
						t.Errorf("%s, to the second version %v: %v", level, more, err)
					}
				})
			}
			wg.Wait()
		}
	}
}

// A migration that fails halfway leaves nothing, and one in the caller's
// transaction is the caller's.
func TestMigrateIsWhole(t *testing.T) {
	t.Parallel()
	ctx, c, o := t.Context(), conn(t, sharedURL(t)), &sqlprovider.Options{Prefix: newPrefix()}
	broken := sqlprovider.Postgres(c, o)
	sqlprovider.AddMigration(broken, "CREATE TABLE {p}more (i integer); SELECT 1/0")
	if err := broken.Migrate(ctx); err == nil {
		t.Fatal("a broken migration succeeded")
	}
	db := sqlprovider.Postgres(c, o)
	wantText(t, "after a migration that failed", newError(ctx, db), "there is no schema")

	tx, err := c.Begin(ctx)
	must(t, err)
	must(t, sqlprovider.Postgres(tx, o).Migrate(ctx))
	must(t, newError(ctx, sqlprovider.Postgres(tx, o)))
	must(t, tx.Rollback(ctx))
	wantText(t, "after a migration that was rolled back", newError(ctx, db), "there is no schema")
}

// From version 1 to 2 while writers of version 1 go on, beside transactions that
// are in no hurry. Nothing is lost, and old and new programs work afterwards.
func TestMigrateWhileWriting(t *testing.T) {
	t.Parallel()
	ctx, o := t.Context(), &sqlprovider.Options{Prefix: newPrefix()}
	var stop atomic.Bool
	var wg sync.WaitGroup
	var names [6]tokencache.Name
	var saves [6]int
	var slowest [6]time.Duration
	for i := range names {
		p := newProvider(t, sqlprovider.Postgres(pool(t, sharedURL(t)), o))
		names[i] = newName()
		wg.Go(func() { saves[i], slowest[i] = writeOn(t, p, names[i], &stop) })
	}
	reader, err := conn(t, sharedURL(t)).Begin(ctx)
	must(t, err)
	_, err = reader.Exec(ctx, "SELECT count(*) FROM "+o.Prefix+"records") // holds a lock until it ends
	must(t, err)
	wg.Go(func() {
		time.Sleep(5 * time.Second)
		_ = reader.Rollback(ctx)
	})

	next := sqlprovider.Postgres(pool(t, sharedURL(t)), o)
	sqlprovider.AddMigration(next, `
		ALTER TABLE {p}records ADD COLUMN note text NOT NULL DEFAULT 'none';
		CREATE INDEX {p}records_note ON {p}records (note);
		UPDATE {p}schema SET version = 2`)
	wantText(t, "New before the migration", newError(ctx, next), "needs 2: call Database.Migrate")
	must(t, next.Migrate(ctx))
	time.Sleep(300 * time.Millisecond)
	stop.Store(true)
	wg.Wait()

	p := newProvider(t, next)
	must(t, newError(ctx, sqlprovider.Postgres(conn(t, sharedURL(t)), o))) // the old program
	for i, n := range names {
		if got, err := p.Load(ctx, n); err != nil || len(got.Sealed) != saves[i] || saves[i] == 0 {
			t.Errorf("writer %d: %d of %d saves are there, error %v", i, len(got.Sealed), saves[i], err)
		}
		if slowest[i] > 3*time.Second {
			t.Errorf("writer %d was held up for %v", i, slowest[i])
		}
	}
	must(t, everything(t, p))
}

// writeOn saves one byte more each time, over what it has saved before, and
// returns how many there are, and how long the slowest took.
func writeOn(t *testing.T, p *sqlprovider.Provider, n tokencache.Name, stop *atomic.Bool) (saves int, slowest time.Duration) {
	var cond tokencache.Condition
	for !stop.Load() {
		r, began := record(strings.Repeat("x", saves+1)), time.Now()
		if err := p.Save(t.Context(), n, r, cond); err != nil {
			t.Error("a save beside the migration:", err)
			break
		}
		slowest = max(slowest, time.Since(began))
		cond = tokencache.IfVersion(r.Version)
		saves++
		time.Sleep(time.Millisecond)
	}
	return saves, slowest
}

// everything makes a call of each kind.
func everything(t *testing.T, p *sqlprovider.Provider) error {
	t.Helper()
	ctx, n, r, later := t.Context(), newName(), record("everything"), time.Now().Add(time.Hour)
	next := record("next")
	errs := []error{
		p.Ping(ctx),
		p.Save(ctx, n, r, tokencache.Condition{}),
		p.Touch(ctx, n, r.Version, later),
		p.Save(ctx, n, next, tokencache.IfVersion(r.Version)),
		p.Save(ctx, n, tombstone(), tokencache.IfVersion(next.Version)),
		p.Save(ctx, n, tombstone(), tokencache.Always()),
		p.Save(ctx, n, record("again"), tokencache.Always()),
		p.SetMark(ctx, n.Owner, tokencache.NewVersion(), later),
	}
	_, err := p.Load(ctx, n)
	errs = append(errs, err)
	_, err = p.List(ctx, n.Owner)
	errs = append(errs, err)
	var lease tokencache.Lease
	eventually(t, 2*time.Second, "a lease", func() bool { // not at once after the server was started anew
		lease, err = p.Acquire(ctx, n, time.Minute)
		return !errors.Is(err, tokencache.ErrBusy)
	})
	if errs = append(errs, err); err == nil {
		errs = append(errs, lease.Renew(ctx, time.Minute), lease.Release(ctx))
	}
	_, err = p.Sweep(ctx)
	return errors.Join(append(errs, err)...)
}
