package flows_test

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/providers/session"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// backend is a kind of store.
type backend struct {
	name   string
	start  func(*testing.T) *store
	server bool // worth to be shared, each world has names of its own
}

// store is one that runs. connect returns a provider for one more machine, which ends
// with the test.
type store struct {
	connect func(*testing.T) tokencache.Provider
}

var backends = []backend{
	{"memory", startMemory, false}, {"session", startSession, false},
	{"redis", startRedis, true}, {"postgres", startPostgres, true}, {"sqlite", startSQLite, false}, {"file", startFile, false},
}

// shared are those that several processes can share.
var shared = backends[2:4]

// patience is how long the caches of the tests wait for their provider.
const patience = 10 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// startMemory is one process, whose caches are of several clients.
func startMemory(t *testing.T) *store {
	t.Helper()
	p, err := memory.New(nil)
	check(t, err)
	t.Cleanup(func() { check(t, p.Close(context.Background())) })
	return &store{func(*testing.T) tokencache.Provider { return p }}
}

// startSession is the store of a session manager.
func startSession(t *testing.T) *store {
	t.Helper()
	// Without the goroutine of scs.New, which nothing ends.
	manager := &scs.SessionManager{Store: memstore.NewWithCleanupInterval(0), Codec: scs.GobCodec{}, Lifetime: time.Hour}
	return &store{func(t *testing.T) tokencache.Provider {
		t.Helper()
		p, err := session.New(manager, nil)
		check(t, err)
		return p
	}}
}

func startRedis(t *testing.T) *store {
	t.Helper()
	server := testserver.NewRedis(t)
	return &store{func(t *testing.T) tokencache.Provider {
		t.Helper()
		o := redisprovider.RecommendedOptions()
		o.Addrs = []string{server.Addr()}
		// As patient as the caches of these tests, which are about flows, on a busy machine.
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience, patience
		client := redis.NewUniversalClient(o)
		t.Cleanup(func() { _ = client.Close() })
		p, err := redisprovider.New(client, &redisprovider.Options{Log: quiet})
		check(t, err)
		t.Cleanup(func() { check(t, p.Close(context.Background())) })
		return p
	}}
}

func startPostgres(t *testing.T) *store {
	t.Helper()
	server := testserver.NewPostgres(t)
	return &store{func(t *testing.T) tokencache.Provider {
		t.Helper()
		pool, err := pgxpool.New(t.Context(), server.URL())
		check(t, err)
		t.Cleanup(pool.Close)
		return open(t, sqlprovider.Postgres(pool, &sqlprovider.Options{Log: quiet}))
	}}
}

func startSQLite(t *testing.T) *store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens.db")
	return &store{func(t *testing.T) tokencache.Provider {
		t.Helper()
		db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(2000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
		check(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return open(t, sqlprovider.SQLite(db, &sqlprovider.Options{Log: quiet}))
	}}
}

// startFile is a file that two processes have opened. Its key is in a mock of the
// operating system's store (see TestMain).
func startFile(t *testing.T) *store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "coatcheck")
	return &store{func(t *testing.T) tokencache.Provider {
		t.Helper()
		p, err := file.Open(t.Context(), &file.Options{Dir: dir})
		check(t, err)
		t.Cleanup(func() { check(t, p.Close(context.Background())) })
		return p
	}}
}

func open(t *testing.T, db *sqlprovider.Database) tokencache.Provider {
	t.Helper()
	check(t, db.Migrate(t.Context()))
	p, err := sqlprovider.New(t.Context(), db)
	check(t, err)
	t.Cleanup(func() { check(t, p.Close(context.Background())) })
	return p
}
