package sql_test

import (
	"context"
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

// One connection at a time, of a pool or as such, and every mode and isolation
// level that a connection may have.
func TestConformancePostgres(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*pgxpool.Config){
		"Pool":           func(*pgxpool.Config) {},
		"PoolOfOne":      func(c *pgxpool.Config) { c.MaxConns = 1 },
		"SimpleProtocol": func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol },
		"RepeatableRead": parameter("default_transaction_isolation", "repeatable read"),
		"Serializable":   parameter("default_transaction_isolation", "serializable"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := sharedURL(t)
			providertest.Run(t, machines(func(t *testing.T, o *sqlprovider.Options) *sqlprovider.Database {
				return sqlprovider.Postgres(pool(t, url, change), o)
			}, sqlprovider.Options{}))
		})
	}
}

func TestConformancePostgresConn(t *testing.T) {
	t.Parallel()
	url := sharedURL(t)
	providertest.Run(t, machines(func(t *testing.T, o *sqlprovider.Options) *sqlprovider.Database {
		return sqlprovider.Postgres(conn(t, url), o)
	}, sqlprovider.Options{}))
}

func TestConformancePostgresListen(t *testing.T) {
	t.Parallel()
	url := sharedURL(t)
	listen := func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, url) }
	providertest.Run(t, machines(func(t *testing.T, o *sqlprovider.Options) *sqlprovider.Database {
		return sqlprovider.Postgres(pool(t, url), o)
	}, sqlprovider.Options{Listen: listen}))
}
