package sql_test

import (
	"path/filepath"
	"testing"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// Machines are handles of one file, with as few or many connections as they have,
// and with settings that nobody thought about.
func TestConformanceSQLite(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		conns    int
		settings []string
	}{
		"AsDocumented":  {conns: 8},
		"OneConnection": {conns: 1},
		"NoWaiting":     {conns: 8, settings: []string{"_pragma=journal_mode(WAL)", "_pragma=synchronous(NORMAL)"}},
		"LongWaiting":   {conns: 8, settings: []string{"_pragma=busy_timeout(60000)", "_pragma=journal_mode(WAL)", "_txlock=immediate"}},
		"NoWAL":         {conns: 8, settings: []string{"_pragma=synchronous(OFF)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
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
