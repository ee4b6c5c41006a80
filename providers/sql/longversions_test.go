package sql_test

import (
	"bytes"
	stdsql "database/sql"
	"strings"
	"testing"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
)

// What somebody has put in place of a version or a mark is not fetched as long as
// it is: only as much of it as shows that it is none of ours.
func TestLongVersions(t *testing.T) {
	t.Parallel()
	ctx, prefix := t.Context(), newPrefix()
	c := conn(t, sharedURL(t))
	db := sqlprovider.Postgres(c, &sqlprovider.Options{Prefix: prefix})
	must(t, db.Migrate(ctx))
	long := bytes.Repeat([]byte{1}, 1000)
	for _, sql := range []string{
		"INSERT INTO {p}records (owner, partition, version, replaced, expires) VALUES ('o', 'p', $1, $1, 9000000000000)",
		"INSERT INTO {p}owners VALUES ('o', $1, 9000000000000, 9000000000000)",
	} {
		_, err := c.Exec(ctx, strings.ReplaceAll(sql, "{p}", prefix), long)
		must(t, err)
	}
	for name, args := range map[string][]any{"load": {"o", "p", 100}, "poll": {"1:1:", 10}} {
		rows, err := c.Query(ctx, sqlprovider.Statements(db)[name], args...)
		must(t, err)
		var all [][]any
		for rows.Next() {
			values, err := rows.Values()
			must(t, err)
			all = append(all, values)
		}
		must(t, rows.Err())
		wantShort(t, name, all)
	}
}

func TestLongVersionsSQLite(t *testing.T) {
	t.Parallel()
	file := handle(t, newFile(t), 1)
	db := sqlprovider.SQLite(file, nil)
	must(t, db.Migrate(t.Context()))
	long := bytes.Repeat([]byte{1}, 1000)
	execute(t, file, "coatcheck_", "INSERT INTO {p}records (owner, partition, version, replaced, expires, change) "+
		"VALUES ('o', 'p', ?1, ?1, 9000000000000, 1)", long)
	execute(t, file, "coatcheck_", "INSERT INTO {p}owners VALUES ('o', ?1, 9000000000000)", long)
	for name, args := range map[string][]any{"load": {"o", "p", 100}, "state": {"o", "p", nil}, "poll": {0, 10}} {
		wantShort(t, name, fetch(t, file, sqlprovider.SQLiteStatements(db)[name], args))
	}
}

// fetch returns all that a statement answers.
func fetch(t *testing.T, db *stdsql.DB, statement string, args []any) (all [][]any) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), statement, args...)
	must(t, err)
	defer func() { must(t, rows.Close()) }()
	columns, err := rows.Columns()
	must(t, err)
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		must(t, rows.Scan(into...))
		all = append(all, values)
	}
	must(t, rows.Err())
	return all
}

// wantShort wants values of bytes, and none of them long.
func wantShort(t *testing.T, name string, rows [][]any) {
	t.Helper()
	found := false
	for _, row := range rows {
		for _, value := range row {
			b, ok := value.([]byte)
			if found = found || ok; len(b) > 17 {
				t.Errorf("%s: %d bytes are fetched", name, len(b))
			}
		}
	}
	if !found {
		t.Errorf("%s: there is nothing to look at", name)
	}
}
