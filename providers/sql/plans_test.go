package sql_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
)

// Every statement finds what it needs by an index, whether the server plans it for
// its parameters or once for all. Under stress there are a million records.
func TestPlans(t *testing.T) {
	t.Parallel()
	ctx, prefix, rows := t.Context(), newPrefix(), 60_000
	if os.Getenv("COATCHECK_STRESS") != "" {
		rows = 1_000_000
	}
	c := conn(t, sharedURL(t))
	db := sqlprovider.Postgres(c, &sqlprovider.Options{Prefix: prefix})
	must(t, db.Migrate(ctx))
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := c.Exec(ctx, strings.ReplaceAll(sql, "{p}", prefix), args...); err != nil {
			t.Fatal(err)
		}
	}
	// Owners with a few partitions each; a thousandth of everything is over: where it is
	// more, the server may well read a small table from one end to the other.
	for _, table := range []string{"records (owner, partition, version, sealed, expires)", "leases (owner, partition, holder, expires)"} {
		values := "decode(md5(i::text), 'hex'), '\\x01'::bytea,"
		if strings.HasPrefix(table, "leases") {
			values = "decode(md5(i::text), 'hex'),"
		}
		exec("INSERT INTO {p}" + table + " SELECT 'owner' || i / 4, 'partition' || i, " + values +
			" CASE WHEN i % 1000 = 0 THEN 1 ELSE 9000000000000 END FROM generate_series(1, " + fmt.Sprint(rows) + ") AS i")
	}
	exec("INSERT INTO {p}owners SELECT 'owner' || i, NULL, 0, CASE WHEN i % 1000 = 0 THEN 1 ELSE 9000000000000 END FROM generate_series(1, " + fmt.Sprint(rows/4) + ") AS i")
	exec("VACUUM ANALYZE {p}records")
	exec("VACUUM ANALYZE {p}owners")
	exec("VACUUM ANALYZE {p}leases")

	var snapshot string
	must(t, c.QueryRow(ctx, "SELECT pg_current_snapshot()::text").Scan(&snapshot))
	value := []byte("0123456789abcdef")
	args := map[string][]any{
		"load": {"owner7", "partition28", 1 << 20}, "touch": {"owner7", "partition28", value, 1000},
		"setMark": {"owner7", value, 1000}, "list": {"owner7"}, "names": {"owner7", "partition28", 256},
		"acquire": {"owner7", "partition28", value, 1000}, "renew": {"owner7", "partition28", value, 1000},
		"release": {"owner7", "partition28", value}, "poll": {snapshot, 2001},
		"sweepRecords": {500}, "sweepLeases": {500}, "sweepOwner": {500},
		"removeAbsent": {"owner7", "partition28", value, 1000}, "removeAlways": {"owner7", "partition28", value, 1000},
		"removeVersion": {"owner7", "partition28", value, 1000, value},
		"saveAbsent":    {"owner7", "partition28", value, 1000, value, value}, "saveAlways": {"owner7", "partition28", value, 1000, value, value},
		"saveVersion":   {"owner7", "partition28", value, 1000, value, value, value},
		"saveUnindexed": {"owner7", "partition28", value, 1000, value, value, value},
	}
	bad := regexp.MustCompile(`Seq Scan on (\w+)`)
	for name, sql := range sqlprovider.Statements(db) {
		exec("SET plan_cache_mode = force_custom_plan")
		check := func(kind, plan string) {
			t.Helper()
			if bad.MatchString(plan) || !strings.Contains(plan, "Index") && !strings.Contains(plan, "Conflict Arbiter") {
				t.Errorf("%s, %s plan:\n%s", name, kind, plan)
			}
		}
		if len(args[name]) == 0 {
			t.Fatalf("%s: no parameters", name)
		}
		check("custom", explain(t, c, "EXPLAIN "+sql, args[name]))
		if name == "poll" {
			continue // generic, it would look at a third of the table; the server never prefers that
		}
		exec("SET plan_cache_mode = force_generic_plan")
		exec("PREPARE s AS " + sql)
		var params []string
		for i := range args[name] {
			params = append(params, fmt.Sprintf("$%d", i+1))
		}
		check("generic", explain(t, c, "EXPLAIN EXECUTE s("+strings.Join(params, ", ")+")", args[name]))
		exec("DEALLOCATE s")
	}
}

// explain returns a plan. The parameters are in the text that is sent.
func explain(t *testing.T, c *pgx.Conn, sql string, args []any) string {
	t.Helper()
	rows, err := c.Query(t.Context(), sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
	must(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return strings.Join(lines, "\n")
}
