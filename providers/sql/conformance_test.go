package sql_test

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// machines makes a harness whose providers have a database handle each, as
// machines do, and whose tests have tables of their own.
func machines(open func(*testing.T, *sqlprovider.Options) *sqlprovider.Database, o sqlprovider.Options) providertest.Harness {
	var prefixes sync.Map // of providers
	start := func(t *testing.T, prefix string) tokencache.Provider {
		o := o
		o.Prefix = prefix
		p := newProvider(t, open(t, &o))
		prefixes.Store(p, prefix)
		return p
	}
	return providertest.Harness{
		New: func(t *testing.T) tokencache.Provider { return start(t, newPrefix()) },
		Peer: func(t *testing.T, first tokencache.Provider) tokencache.Provider {
			prefix, _ := prefixes.Load(first)
			return start(t, prefix.(string))
		},
	}
}

// parameter sets one of the server's parameters for the connections of a pool.
func parameter(name, value string) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams[name] = value }
}

func TestConformancePostgres(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*pgxpool.Config){
		"Pool":           func(*pgxpool.Config) {},
		"One":            func(c *pgxpool.Config) { c.MaxConns = 1 },
		"SimpleProtocol": func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol },
		"Exec":           func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec },
		"RepeatableRead": parameter("default_transaction_isolation", "repeatable read"),
		"Serializable":   parameter("default_transaction_isolation", "serializable"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := dsn(t)
			providertest.Run(t, machines(func(t *testing.T, o *sqlprovider.Options) *sqlprovider.Database {
				return sqlprovider.Postgres(pool(t, dsn, change), o)
			}, sqlprovider.Options{}))
		})
	}
}
