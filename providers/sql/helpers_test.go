package sql_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(main{m}) }

// main closes the shared server before anybody looks for what was left behind.
type main struct{ *testing.M }

func (m main) Run() int {
	code := m.M.Run()
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close the shared server:", err)
			return 1
		}
	}
	return code
}

// shared is a server for tests that do nothing to it, each with tables of its own.
// It is made by the first of them.
var shared struct {
	sync.Mutex
	server *testserver.Postgres
	err    error
}

// sharedURL is the address of the shared server.
func sharedURL(t *testing.T) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = testserver.StartPostgres("max_connections = 500", "max_pred_locks_per_transaction = 256")
	}
	if errors.Is(shared.err, exec.ErrNotFound) && os.Getenv("COATCHECK_REQUIRE_SERVERS") == "" {
		t.Skip("install it to run this test:", shared.err)
	}
	must(t, shared.err)
	return shared.server.URL()
}

// pool returns a pool of the server, as changed.
func pool(t *testing.T, dsn string, changes ...func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	c, err := pgxpool.ParseConfig(dsn)
	must(t, err)
	c.MaxConns = 8
	for _, change := range changes {
		change(c)
	}
	p, err := pgxpool.NewWithConfig(t.Context(), c)
	must(t, err)
	t.Cleanup(p.Close)
	return p
}

// conn returns a connection to the server.
func conn(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// newProvider returns a provider that ends with the test, before its database. It
// makes the tables that it needs.
func newProvider(t *testing.T, db *sqlprovider.Database) *sqlprovider.Provider {
	t.Helper()
	var p *sqlprovider.Provider
	_, err := again(t.Context(), func() (err error) { // some servers are killed meanwhile
		if err = db.Migrate(t.Context()); err == nil {
			p, err = sqlprovider.New(t.Context(), db)
		}
		return err
	})
	must(t, err)
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error("Close:", err)
		}
	})
	return p
}

// newPrefix returns one that no other test has.
func newPrefix() string { return "t" + tokencache.NewVersion().String()[:20] + "_" }

func newName() tokencache.Name {
	return tokencache.Name{
		Owner:     "owner" + tokencache.NewVersion().String(),
		Partition: "partition" + tokencache.NewVersion().String(),
	}
}

func record(text string) tokencache.Record {
	return tokencache.Record{Sealed: []byte(text), Version: tokencache.NewVersion(), Expires: time.Now().Add(time.Hour)}
}

func tombstone() tokencache.Record {
	return tokencache.Record{Version: tokencache.NewVersion(), Expires: time.Now().Add(time.Hour)}
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a moment in which the condition holds.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// journal collects a log.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.buf.String(), text)
}
