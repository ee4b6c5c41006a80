package sql_test

import (
	"os"
	"path/filepath"
	"testing"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// Machines are handles of one file, with as few or many connections as they have;
// and, where time does not matter, with settings that nobody thought about.
func TestConformanceSQLite(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		conns    int
		settings []string
		stress   bool
	}{
		"AsDocumented":  {conns: 8},
		"OneConnection": {conns: 1},
		"NoWaiting":     {conns: 8, settings: []string{"_pragma=journal_mode(WAL)", "_pragma=synchronous(NORMAL)"}, stress: true},
		"LongWaiting":   {conns: 8, settings: []string{"_pragma=busy_timeout(60000)", "_pragma=journal_mode(WAL)", "_txlock=immediate"}, stress: true},
		"NoWAL":         {conns: 8, settings: []string{"_pragma=busy_timeout(100)", "_pragma=synchronous(OFF)"}, stress: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.stress && os.Getenv("COATCHECK_STRESS") == "" {
				t.Skip("only under stress")
			}
			dir, quiet := t.TempDir(), &journal{}
			providertest.Run(t, machines(func(t *testing.T, o *sqlprovider.Options) *sqlprovider.Database {
				// Each test has a file, as each connection reads about all the tables of it.
				return sqlprovider.SQLite(handle(t, filepath.Join(dir, o.Prefix), test.conns, test.settings...), o)
			}, sqlprovider.Options{Log: quiet.logger()}))
		})
	}
}

// In memory there is one machine, with one connection.
func TestConformanceSQLiteMemory(t *testing.T) {
	t.Parallel()
	db := handle(t, ":memory:", 1, "")
	providertest.Run(t, machines(func(_ *testing.T, o *sqlprovider.Options) *sqlprovider.Database {
		return sqlprovider.SQLite(db, o)
	}, sqlprovider.Options{}))
}
