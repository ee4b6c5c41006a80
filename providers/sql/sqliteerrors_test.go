package sql_test

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Each error says what to do, and neither where the file is nor what is in it. None
// of them means that there is nothing.
func TestSQLiteErrors(t *testing.T) {
	t.Parallel()
	const dir = "marker-directory"
	root := os.Geteuid() == 0
	for name, test := range map[string]struct {
		// breaks does it, to a database that is open if it may stay so.
		breaks   func(t *testing.T, db *stdsql.DB, file string)
		settings string
		reopen   bool
		want     string
		reads    bool // reads are not broken
	}{
		"table dropped":      {breaks: statement("DROP TABLE coatcheck_records"), want: "Database.Migrate"},
		"column dropped":     {breaks: statement("ALTER TABLE coatcheck_records RENAME COLUMN sealed TO other"), want: "Database.Migrate"},
		"handle closed":      {breaks: func(t *testing.T, db *stdsql.DB, _ string) { must(t, db.Close()) }, want: "close the provider first"},
		"query only":         {breaks: statement("PRAGMA query_only = 1"), want: "writable", reads: true},
		"opened for reading": {breaks: unbroken, reopen: true, settings: "mode=ro", want: "writable", reads: true},
		"no such directory": {breaks: func(t *testing.T, _ *stdsql.DB, file string) { must(t, os.RemoveAll(filepath.Dir(file))) },
			reopen: true, want: "its directory must be there"},
		"not a database": {breaks: func(t *testing.T, _ *stdsql.DB, file string) {
			must(t, os.WriteFile(file, []byte(strings.Repeat("marker-text ", 1000)), 0o600))
		}, reopen: true, want: "no SQLite database"},
		"damaged":         {breaks: damage, reopen: true, want: "damaged"},
		"cut":             {breaks: func(t *testing.T, _ *stdsql.DB, file string) { must(t, os.Truncate(file, 8<<10)) }, reopen: true, want: "damaged"},
		"too slow a lock": {breaks: func(t *testing.T, _ *stdsql.DB, file string) { locked(t, file) }, want: "lock", reads: true},
		"read-only directory": {breaks: func(t *testing.T, _ *stdsql.DB, file string) {
			if root {
				t.Skip("root may write everywhere")
			}
			must(t, os.Chmod(file, 0o400))
			must(t, os.Chmod(filepath.Dir(file), 0o500))
			t.Cleanup(func() { _ = os.Chmod(filepath.Dir(file), 0o700) })
		}, reopen: true, settings: recommended, want: "writable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), dir, "coatcheck.db")
			must(t, os.Mkdir(filepath.Dir(file), 0o700))
			db := handle(t, file, 1)
			p := newProvider(t, sqlprovider.SQLite(db, nil))
			for range 20 {
				must(t, p.Save(t.Context(), newName(), record(contents()), tokencache.Condition{}))
			}
			n, r := newName(), record(contents())
			must(t, p.Save(t.Context(), n, r, tokencache.Condition{}))
			if test.reopen {
				must(t, db.Close())
			}
			test.breaks(t, db, file)
			var found []error
			if test.reopen {
				db = handle(t, file, 1, test.settings)
				reopened := sqlprovider.SQLite(db, nil)
				var err error
				if p, err = sqlprovider.New(t.Context(), reopened); err != nil {
					wantText(t, "New", err, test.want)
					wantText(t, "Migrate", reopened.Migrate(t.Context()), test.want)
					return
				}
				defer func() { _ = p.Close(t.Context()) }()
			}
			ctx, cancel := within(t, 500*time.Millisecond)
			defer cancel()
			_, err := p.Load(ctx, n)
			if test.reads {
				must(t, err)
			} else {
				found = append(found, err)
			}
			found = append(found, p.Save(ctx, n, record("next"), tokencache.IfVersion(r.Version)))
			if !strings.Contains(name, "dropped") && !test.reads {
				found = append(found, p.Ping(ctx))
			}
			for i, err := range found {
				wantText(t, fmt.Sprint("call ", i), err, test.want)
				if err == nil {
					continue
				}
				for _, not := range []error{tokencache.ErrNotFound, tokencache.ErrConflict, tokencache.ErrRemoved} {
					if errors.Is(err, not) {
						t.Errorf("call %d: %v", i, not)
					}
				}
				for _, secret := range []string{dir, n.Owner, n.Partition, "SELECT", "coatcheck_"} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("call %d: the error tells too much", i)
					}
				}
			}
		})
	}
}

var errNowhere = errors.New("there is nowhere to listen")

func listenNowhere(context.Context) (*pgx.Conn, error) { return nil, errNowhere }

func unbroken(*testing.T, *stdsql.DB, string) {}

func statement(text string) func(*testing.T, *stdsql.DB, string) {
	return func(t *testing.T, db *stdsql.DB, _ string) { execute(t, db, "", text) }
}

// damage writes over everything but the first pages.
func damage(t *testing.T, _ *stdsql.DB, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	for i := 4 << 10; i < len(b); i++ {
		b[i] = 0xa5
	}
	must(t, os.WriteFile(file, b, 0o600))
}
