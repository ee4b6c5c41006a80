package sql_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// What a Cache promises, on two machines.
func TestCache(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*pgxpool.Config){
		"Pool":           func(*pgxpool.Config) {},
		"SimpleProtocol": func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := sharedURL(t)
			providertest.RunCache(t, machines(func(t *testing.T, o *sqlprovider.Options) *sqlprovider.Database {
				return sqlprovider.Postgres(pool(t, url, change), o)
			}, sqlprovider.Options{}))
		})
	}
}

// And while the server is killed and started again, over and over.
func TestCacheWhileKilled(t *testing.T) {
	t.Parallel()
	s := testserver.NewPostgres(t, "max_connections = 300")
	killer, quiet := kill(t, s), &journal{}
	h := machines(func(t *testing.T, o *sqlprovider.Options) *sqlprovider.Database {
		return sqlprovider.Postgres(pool(t, s.URL()), o)
	}, sqlprovider.Options{Log: quiet.logger()})
	h.Expiry, h.Outages = 800*time.Millisecond, true
	t.Run("Suite", func(t *testing.T) { providertest.RunCache(t, h) })
	if times := killer.stop(); times < 3 {
		t.Errorf("the server was killed %d times only", times)
	}
}

// What is in the files afterwards tells nobody anything.
func TestCacheSQLite(t *testing.T) {
	t.Parallel()
	dir, quiet := t.TempDir(), &journal{}
	t.Run("Suite", func(t *testing.T) {
		providertest.RunCache(t, machines(func(t *testing.T, o *sqlprovider.Options) *sqlprovider.Database {
			return sqlprovider.SQLite(handle(t, filepath.Join(dir, o.Prefix), 4), o)
		}, sqlprovider.Options{Log: quiet.logger()}))
	})
	files, err := os.ReadDir(dir)
	must(t, err)
	size := 0
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		must(t, err)
		size += len(b)
		if bytes.Contains(b, []byte("marker")) {
			t.Errorf("a file %q has a secret in it", filepath.Ext(f.Name()))
		}
	}
	if size < 1<<20 {
		t.Errorf("%d files of %d bytes were looked at", len(files), size)
	}
}
