package session_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

func TestMain(m *testing.M) {
	logging.Disable()
	goleak.VerifyTestMain(main{m})
}

// main closes the shared servers before anybody looks for what was left behind.
type main struct{ *testing.M }

func (m main) Run() int {
	code := m.M.Run()
	var errs []error
	if shared.redis != nil {
		errs = append(errs, shared.redis.Close())
	}
	if shared.postgres != nil {
		errs = append(errs, shared.postgres.Close())
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "close the shared servers:", err)
		return 1
	}
	return code
}

// shared are servers for tests that do nothing to them. Each test has a prefix, or a
// table, of its own.
var shared struct {
	sync.Mutex
	redis    *testserver.Redis
	postgres *testserver.Postgres
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// require skips a test whose server is not installed.
func require(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("COATCHECK_REQUIRE_SERVERS") == "" {
		t.Skip("install it to run this test:", err)
	}
	must(t, err)
}

func redisAddr(t testing.TB) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.redis == nil {
		var err error
		shared.redis, err = testserver.StartRedis()
		require(t, err)
	}
	return shared.redis.Addr()
}

func postgresURL(t testing.TB) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.postgres == nil {
		var err error
		shared.postgres, err = testserver.StartPostgres("max_connections = 500")
		require(t, err)
	}
	return shared.postgres.URL()
}

// sessionStore is a kind of store, and how to open one that is empty. What open
// returns opens further connections to the same.
type sessionStore struct {
	name string
	open func(t testing.TB) (again func(testing.TB) scs.Store)
}

func stores() []sessionStore {
	return []sessionStore{
		{"memory", func(testing.TB) func(testing.TB) scs.Store {
			s := memstore.NewWithCleanupInterval(0) // without its goroutine, which nothing ends
			return func(testing.TB) scs.Store { return s }
		}},
		{"redis", func(t testing.TB) func(testing.TB) scs.Store {
			addr, prefix := redisAddr(t), unique()+":"
			return func(t testing.TB) scs.Store {
				c := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
				t.Cleanup(func() { _ = c.Close() })
				return goredisstore.NewWithPrefix(c, prefix)
			}
		}},
		{"postgres", func(t testing.TB) func(testing.TB) scs.Store {
			return sqlStores(t, "pgx", postgresURL(t))
		}},
		{"sqlite", func(t testing.TB) func(testing.TB) scs.Store {
			file := filepath.Join(t.TempDir(), "sessions.db")
			return sqlStores(t, "sqlite", "file:"+file+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_txlock=immediate")
		}},
	}
}

var serial struct {
	sync.Mutex
	n int
}

// unique returns a name that no other test has.
func unique() string {
	serial.Lock()
	defer serial.Unlock()
	serial.n++
	return fmt.Sprintf("sessions_%d", serial.n)
}

// sqlStore keeps sessions in a table of PostgreSQL or SQLite. Times are milliseconds
// since 1970.
type sqlStore struct {
	db    *sql.DB
	table string
}

var (
	_ scs.CtxStore         = (*sqlStore)(nil)
	_ scs.IterableCtxStore = (*sqlStore)(nil)
)

func sqlStores(t testing.TB, driver, dsn string) func(testing.TB) scs.Store {
	t.Helper()
	table := unique()
	again := func(t testing.TB) *sqlStore {
		t.Helper()
		db, err := sql.Open(driver, dsn)
		must(t, err)
		db.SetMaxOpenConns(4)
		db.SetMaxIdleConns(4)
		t.Cleanup(func() { must(t, db.Close()) })
		return &sqlStore{db: db, table: table}
	}
	_, err := again(t).db.ExecContext(t.Context(), "CREATE TABLE "+table+
		" (token text PRIMARY KEY, data bytea NOT NULL, expiry bigint NOT NULL)")
	must(t, err)
	return func(t testing.TB) scs.Store { return again(t) }
}

func (s *sqlStore) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT data FROM "+s.table+" WHERE token = $1 AND expiry > $2",
		token, time.Now().UnixMilli()).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return data, err == nil, err
}

func (s *sqlStore) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO "+s.table+" (token, data, expiry) VALUES ($1, $2, $3) "+
		"ON CONFLICT (token) DO UPDATE SET data = excluded.data, expiry = excluded.expiry", token, data, expiry.UnixMilli())
	return err
}

func (s *sqlStore) DeleteCtx(ctx context.Context, token string) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM "+s.table+" WHERE token = $1", token)
	return err
}

func (s *sqlStore) AllCtx(ctx context.Context) (map[string][]byte, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT token, data FROM "+s.table+" WHERE expiry > $1", time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	all := map[string][]byte{}
	for rows.Next() {
		var token string
		var data []byte
		if err := rows.Scan(&token, &data); err != nil {
			return nil, err
		}
		all[token] = data
	}
	return all, rows.Err()
}

// As of the stores of scs that need a context.
func (s *sqlStore) Find(string) ([]byte, bool, error)      { panic("missing context arg") }
func (s *sqlStore) Commit(string, []byte, time.Time) error { panic("missing context arg") }
func (s *sqlStore) Delete(string) error                    { panic("missing context arg") }

// find returns what the store has under a token, whatever kind it is.
func find(t testing.TB, s scs.Store, token string) ([]byte, bool) {
	t.Helper()
	var b []byte
	var found bool
	var err error
	if c, ok := s.(scs.CtxStore); ok {
		b, found, err = c.FindCtx(t.Context(), token)
	} else {
		b, found, err = s.Find(token)
	}
	must(t, err)
	return b, found
}

func all(t testing.TB, s scs.Store) map[string][]byte {
	t.Helper()
	var m map[string][]byte
	var err error
	if c, ok := s.(scs.IterableCtxStore); ok {
		m, err = c.AllCtx(t.Context())
	} else {
		m, err = s.(scs.IterableStore).All()
	}
	must(t, err)
	return m
}

// newManager is scs.New on the store.
func newManager(s scs.Store) *scs.SessionManager {
	return &scs.SessionManager{
		Store:     s,
		Codec:     scs.GobCodec{},
		Lifetime:  time.Hour,
		Cookie:    scs.SessionCookie{Name: "session", Path: "/"},
		ErrorFunc: func(_ http.ResponseWriter, _ *http.Request, err error) { panic(err) },
	}
}
