package sql_test

import (
	"context"
	stdsql "database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
)

// recommended are the settings that the documentation of SQLite names.
const recommended = "_pragma=busy_timeout(100)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"

// newFile is the path of a database that is not there yet.
func newFile(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "coatcheck.db")
}

// handle opens a database as the documentation says, or with the settings, until
// the test ends. At most so many connections are open.
func handle(t *testing.T, file string, conns int, settings ...string) *stdsql.DB {
	t.Helper()
	if len(settings) == 0 {
		settings = []string{recommended}
	}
	db, err := stdsql.Open("sqlite", "file:"+file+"?"+strings.Join(settings, "&"))
	must(t, err)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

// execute runs a statement under a prefix.
func execute(t *testing.T, db *stdsql.DB, prefix, statement string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), strings.ReplaceAll(statement, "{p}", prefix), args...)
	must(t, err)
}

// machine is a provider on a file, with a handle of its own.
func machine(t *testing.T, file string) *sqlprovider.Provider {
	t.Helper()
	return newProvider(t, sqlprovider.SQLite(handle(t, file, 4), nil))
}

// number asks for one.
func number(t *testing.T, db *stdsql.DB, query string) (n int) {
	t.Helper()
	must(t, db.QueryRowContext(context.WithoutCancel(t.Context()), query).Scan(&n))
	return n
}

// within is a context for calls that may hang.
func within(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// sound checks the file.
func sound(t *testing.T, db *stdsql.DB) {
	t.Helper()
	var verdict string
	must(t, db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict))
	if verdict != "ok" {
		t.Error("the file is damaged:", verdict)
	}
}

// seed makes records, owners with marks and leases, by the statement.
func seed(t *testing.T, db *stdsql.DB, rows int) {
	t.Helper()
	const numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) INSERT INTO coatcheck_"
	execute(t, db, "", numbers+"records (owner, partition, version, expires, change, sealed) "+
		"SELECT 'owner' || i / 4, 'partition' || i, randomblob(16), 9000000000000 + i, i, randomblob(500) FROM n", rows)
	execute(t, db, "", numbers+"owners SELECT 'owner' || i, randomblob(16), 9000000000000 + i FROM n", rows/4)
	execute(t, db, "", numbers+"leases SELECT 'owner' || i, 'p', randomblob(16), 9000000000000 + i FROM n", rows)
}
