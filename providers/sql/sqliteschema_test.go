package sql_test

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestNewRefusesSQLite(t *testing.T) {
	t.Parallel()
	db := handle(t, newFile(t), 1)
	for want, d := range map[string]*sqlprovider.Database{
		"handle of the database is required": sqlprovider.SQLite(nil, nil),
		"Prefix":                             sqlprovider.SQLite(db, &sqlprovider.Options{Prefix: "a'b"}),
		"PostgreSQL only":                    sqlprovider.SQLite(db, &sqlprovider.Options{Listen: listenNowhere}),
	} {
		wantText(t, "New", newError(t.Context(), d), want)
		wantText(t, "Migrate", d.Migrate(t.Context()), want)
	}
}

// New tells what is wrong with a schema and what to do, and changes nothing.
func TestSchemaStatesSQLite(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		then string // after the migration; "" for none
		want string // of New, "" for no error
		migr string // of Migrate, afterwards
	}{
		"none":            {"", "call Database.Migrate", ""},
		"there":           {"SELECT 1", "", ""},
		"table dropped":   {"DROP TABLE {p}leases", "incomplete", "incomplete"},
		"only a table":    {"DROP TABLE {p}schema; DROP TABLE {p}leases; DROP TABLE {p}owners", "incomplete", "incomplete"},
		"no version":      {"DELETE FROM {p}schema", "incomplete", "incomplete"},
		"version dropped": {"DROP TABLE {p}schema", "incomplete", "incomplete"},
		"older":           {"UPDATE {p}schema SET version = 0", "there is no schema", "is there already"},
		"newer, usable":   {"UPDATE {p}schema SET version = 7", "", ""},
		"newer":           {"UPDATE {p}schema SET version = 7, oldest = 5", "newer (version 7)", "newer (version 7)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, c, o := t.Context(), handle(t, newFile(t), 2), &sqlprovider.Options{Prefix: newPrefix()}
			db := sqlprovider.SQLite(c, o)
			if test.then != "" {
				must(t, db.Migrate(ctx))
				execute(t, c, o.Prefix, test.then)
			}
			wantText(t, "New", newError(ctx, db), test.want)
			wantText(t, "Migrate", db.Migrate(ctx), test.migr)
			if test.migr == "" {
				wantText(t, "New, after Migrate", newError(ctx, db), "")
			}
		})
	}
}

// The exported SQL makes what Migrate makes, also beside another prefix.
func TestSchemaByHandSQLite(t *testing.T) {
	t.Parallel()
	c := handle(t, newFile(t), 2)
	for range 2 {
		o := &sqlprovider.Options{Prefix: newPrefix()}
		db := sqlprovider.SQLite(c, o)
		text, err := db.Schema()
		must(t, err)
		execute(t, c, "", text)
		must(t, db.Migrate(t.Context())) // has nothing to do
		must(t, everything(t, newProvider(t, db)))
	}
}

// Many machines migrate at once, and wait for each other, also where the file is
// not there yet, and with settings under which SQLite does not wait.
func TestMigrateByManySQLite(t *testing.T) {
	t.Parallel()
	for _, settings := range []string{recommended, "_pragma=journal_mode(WAL)", "_pragma=synchronous(NORMAL)"} {
		file, log := newFile(t), &journal{}
		var wg sync.WaitGroup
		for range 8 {
			db := sqlprovider.SQLite(handle(t, file, 2, settings), &sqlprovider.Options{Log: log.logger()})
			wg.Go(func() {
				if err := errors.Join(db.Migrate(t.Context()), newError(t.Context(), db)); err != nil {
					t.Errorf("%s: %v", settings, err)
				}
			})
		}
		wg.Wait()
	}
}

// A migration that fails halfway leaves nothing.
func TestMigrateIsWholeSQLite(t *testing.T) {
	t.Parallel()
	c := handle(t, newFile(t), 1)
	broken := sqlprovider.SQLite(c, nil)
	sqlprovider.AddMigration(broken, "CREATE TABLE {p}more (i INTEGER); SELECT no_such_function()")
	if err := broken.Migrate(t.Context()); err == nil {
		t.Fatal("a broken migration succeeded")
	}
	db := sqlprovider.SQLite(c, nil)
	wantText(t, "after a migration that failed", newError(t.Context(), db), "there is no schema")
	must(t, newProvider(t, db).Ping(t.Context()))
}

func TestMigrateWhileWritingSQLite(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	open := func() *sqlprovider.Database { return sqlprovider.SQLite(handle(t, file, 2), nil) }
	migrateWhileWriting(t, open, func(wg *sync.WaitGroup) {
		release := locked(t, file)
		wg.Go(func() {
			time.Sleep(500 * time.Millisecond)
			release()
		})
	})
}

// Every statement finds what it needs by an index.
func TestPlansSQLite(t *testing.T) {
	t.Parallel()
	c := handle(t, newFile(t), 1)
	db := sqlprovider.SQLite(c, nil)
	must(t, db.Migrate(t.Context()))
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			seed(t, c, 5000)
			execute(t, c, "", "ANALYZE")
		}
		for name, text := range sqlprovider.SQLiteStatements(db) {
			args := []any{"owner7", "partition28", []byte("0123456789abcdef"), 1000, []byte("x"), nil, []byte("y")}
			most := 0
			for i := range args {
				if strings.Contains(text, fmt.Sprint("?", i+1)) {
					most = i + 1
				}
			}
			if name == "poll" || strings.HasPrefix(name, "sweep") {
				args = []any{10, 10}
			}
			plan := planOf(t, c, text, args[:most])
			for _, line := range plan {
				fine := strings.HasPrefix(line, "SEARCH ") || line == "SCAN CONSTANT ROW" || line == "SCAN one"
				if !fine && (strings.Contains(line, "SCAN") && !strings.Contains(line, "SCAN (subquery") || strings.Contains(line, "TEMP B-TREE")) {
					t.Errorf("%s, analyzed %v:\n%s", name, analyzed, strings.Join(plan, "\n"))
				}
			}
		}
	}
}

// planOf returns the steps of a statement.
func planOf(t *testing.T, db *stdsql.DB, text string, args []any) (plan []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, args...)
	must(t, err)
	defer func() { must(t, rows.Close()) }()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		must(t, rows.Scan(&id, &parent, &unused, &detail))
		plan = append(plan, detail)
	}
	must(t, rows.Err())
	return plan
}

// What was swept is gone but for the last change, whose number must not be given
// out again; a second time, nothing is left to sweep. Nobody waits for long.
func TestSweepSQLite(t *testing.T) {
	t.Parallel()
	ctx, file := t.Context(), newFile(t)
	c := handle(t, file, 4)
	p, other := newProvider(t, sqlprovider.SQLite(c, nil)), machine(t, file)
	const rows = 3000
	seed(t, c, rows)
	execute(t, c, "", "UPDATE coatcheck_records SET expires = 1 WHERE rowid % 2 = 0")
	execute(t, c, "", "UPDATE coatcheck_owners SET expires = 1")
	execute(t, c, "", "UPDATE coatcheck_leases SET expires = 1")
	swept := make(chan int, 2)
	for _, p := range []*sqlprovider.Provider{p, other} {
		go func() {
			count, err := p.Sweep(ctx)
			if err != nil {
				t.Error("Sweep:", err)
			}
			swept <- count
		}()
	}
	for range 20 {
		n := newName()
		must(t, p.Save(ctx, n, record("beside"), tokencache.Condition{}))
	}
	if total := <-swept + <-swept; total < rows/2+rows/4-1 || total > rows/2+rows/4 {
		t.Errorf("%d were swept", total)
	}
	if n := number(t, c, "SELECT count(*) FROM coatcheck_records WHERE expires = 1"); n > 1 {
		t.Errorf("%d expired records are left", n)
	}
	if n := number(t, c, "SELECT (SELECT count(*) FROM coatcheck_owners) + (SELECT count(*) FROM coatcheck_leases)"); n != 0 {
		t.Errorf("%d marks and leases are left", n)
	}
	// Everything is over.
	greatest := number(t, c, "SELECT max(change) FROM coatcheck_records")
	execute(t, c, "", "UPDATE coatcheck_records SET expires = 1")
	_, err := p.Sweep(ctx)
	must(t, err)
	if n := number(t, c, "SELECT count(*) FROM coatcheck_records"); n != 1 {
		t.Errorf("%d records are left", n)
	}
	must(t, p.Save(ctx, newName(), record("next"), tokencache.Condition{}))
	if next := number(t, c, "SELECT max(change) FROM coatcheck_records"); next != greatest+1 {
		t.Errorf("after change %d came %d", greatest, next)
	}
	if count, err := p.Sweep(ctx); err != nil || count != 1 {
		t.Errorf("the one that was kept: %d, error %v", count, err)
	}
}

// Very many changes at once, and a file that has gone back in time, are told as what
// may have been missed; others one by one, with what they have replaced.
func TestWatchSQLite(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	file := newFile(t)
	c, p := handle(t, file, 2), machine(t, file)
	changes, ended := make(chan tokencache.Change, 5000), make(chan error, 1)
	go func() { ended <- p.Watch(ctx, func(c tokencache.Change) { changes <- c }) }()
	missed := func(what string) {
		t.Helper()
		select {
		case c := <-changes:
			if !c.Missed {
				t.Errorf("%s: a change is told, and not that some were missed", what)
			}
		case <-time.After(10 * time.Second):
			t.Fatal(what, "is not told")
		}
	}
	missed("the beginning")
	n, first, second := newName(), record("first"), record("second")
	must(t, p.Save(ctx, n, first, tokencache.Condition{}))
	if got := <-changes; got != (tokencache.Change{Name: n, Version: first.Version}) {
		t.Errorf("the first save is told as %v after %v", got.Version, got.Replaced)
	}
	must(t, p.Save(ctx, n, second, tokencache.IfVersion(first.Version)))
	if got := <-changes; got != (tokencache.Change{Name: n, Version: second.Version, Replaced: first.Version}) {
		t.Errorf("the second save is told as %v after %v", got.Version, got.Replaced)
	}
	execute(t, c, "", "DELETE FROM coatcheck_records")
	missed("that nothing is left")
	seed(t, c, 2500)
	missed("what was made of 2500")
	must(t, p.Save(ctx, n, first, tokencache.Condition{}))
	if got := <-changes; got.Missed || got.Version != first.Version {
		t.Errorf("afterwards, a save is told as %v", got.Version)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error("Watch:", err)
	}
}
