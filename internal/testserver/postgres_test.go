package testserver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	check(t, err)
	t.Cleanup(func() { _ = c.Close(background()) })
	return c
}

// sql runs statements.
func sql(t *testing.T, c *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := c.Exec(t.Context(), statement)
		check(t, err)
	}
}

// value is what a query returns.
func value[V any](t *testing.T, c *pgx.Conn, query string) (v V) {
	t.Helper()
	check(t, c.QueryRow(t.Context(), query).Scan(&v))
	return v
}

func TestPostgresKeepsWhatWasCommitted(t *testing.T) {
	s := testserver.NewPostgres(t)
	addr, location := s.Addr(), s.URL()
	sql(t, connect(t, location), "CREATE TABLE t (n int)")
	for i := range 4 {
		c := connect(t, s.URL())
		busy := connect(t, s.URL())
		sql(t, busy, "BEGIN", "INSERT INTO t VALUES (100)")
		sql(t, c, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
		if i < 2 {
			check(t, s.Kill())
			check(t, s.Kill())
		} else {
			check(t, s.Stop())
			check(t, s.Stop())
		}
		if _, err := c.Exec(t.Context(), "SELECT 1"); err == nil {
			t.Error("a server that is down answers")
		}
		check(t, s.Start())
	}
	c := connect(t, s.URL())
	if got := value[string](t, c, "SELECT string_agg(n::text, ',' ORDER BY n) FROM t"); got != "0,1,2,3" {
		t.Errorf("rows %q, want what was committed", got)
	}
	if s.Addr() != addr || s.URL() != location {
		t.Error("its address has changed")
	}
}

func TestPostgresTakesConfiguration(t *testing.T) {
	s := testserver.NewPostgres(t, "max_connections = 7", "shared_buffers = 8MB")
	c := connect(t, s.URL())
	for name, want := range map[string]string{
		"max_connections": "7", "shared_buffers": "8MB", "synchronous_commit": "on", "jit": "off",
		"autovacuum": "on", "listen_addresses": "127.0.0.1", "password_encryption": "scram-sha-256",
	} {
		if got := value[string](t, c, "SHOW "+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	_, port, err := net.SplitHostPort(s.Addr())
	check(t, err)
	if got := value[string](t, c, "SHOW port"); got != port {
		t.Errorf("port %s, want %s", got, port)
	}
}

func TestPostgresWantsThePassword(t *testing.T) {
	s := testserver.NewPostgres(t)
	location, err := url.Parse(s.URL())
	check(t, err)
	location.User = url.UserPassword(location.User.Username(), "marker-wrong")
	var refused *pgconn.PgError
	_, err = pgx.Connect(t.Context(), location.String())
	if !errors.As(err, &refused) || refused.Code != "28P01" {
		t.Errorf("with a wrong password: %v", err)
	}
	for _, line := range hba(t, connect(t, s.URL())) {
		if !strings.HasSuffix(line, "scram-sha-256") {
			t.Errorf("a rule of authentication is %q", line)
		}
	}
}

func hba(t *testing.T, c *pgx.Conn) []string {
	t.Helper()
	rows, err := c.Query(t.Context(), "SELECT type || ' ' || auth_method FROM pg_hba_file_rules")
	check(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	check(t, err)
	if len(lines) == 0 {
		t.Error("no rules of authentication")
	}
	return lines
}

func TestPostgresThatDoesNotStart(t *testing.T) {
	testserver.NewPostgres(t) // skips where there is none
	dir := temporary(t)
	_, err := testserver.StartPostgres("no_such_setting = 1")
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("error %v, want what PostgreSQL says", err)
	}
	empty(t, dir)
}

// temporary has servers put their directories into a new one, which is returned.
// Everybody can enter it.
func temporary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "coatcheck-test-")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	t.Setenv("TMPDIR", dir)
	return dir
}

func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

func TestPostgresPause(t *testing.T) {
	s := testserver.NewPostgres(t)
	c := connect(t, s.URL())
	answers := make(chan error, 2)
	check(t, s.Pause())
	check(t, s.Pause())
	if err := s.Stop(); err == nil {
		t.Error("a paused server was stopped")
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, err := c.Exec(t.Context(), "SELECT 1"); answers <- err })
	wg.Go(func() { // the system accepts it
		other, err := pgx.Connect(t.Context(), s.URL())
		if err == nil {
			err = other.Close(t.Context())
		}
		answers <- err
	})
	select {
	case err := <-answers:
		t.Errorf("a paused server answers: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	check(t, s.Resume())
	wg.Wait()
	check(t, errors.Join(<-answers, <-answers))
	check(t, s.Pause())
	check(t, s.Kill())
	if err := s.Pause(); err == nil {
		t.Error("a server that is down was paused")
	}
	check(t, s.Start())
	connect(t, s.URL())
}

func TestPostgresClose(t *testing.T) {
	testserver.NewPostgres(t) // skips where there is none
	dir := temporary(t)
	s, err := testserver.StartPostgres()
	check(t, err)
	defer func() { _ = s.Close() }()
	data := value[string](t, connect(t, s.URL()), "SHOW data_directory")
	if !strings.HasPrefix(data, dir) {
		t.Errorf("its directory is not in TMPDIR")
	}
	if err := s.Start(); err == nil {
		t.Error("a server that runs was started")
	}
	check(t, s.Pause())
	check(t, s.Close())
	check(t, s.Close())
	empty(t, dir)
	if err := s.Start(); err == nil {
		t.Error("a closed server was started")
	}
	refused(t, s.Addr())
}

// Start waits for a port that somebody else uses for a moment, and does not take
// that somebody for the server.
func TestPostgresPortTaken(t *testing.T) {
	s := testserver.NewPostgres(t)
	check(t, s.Kill())
	other, err := net.Listen("tcp", s.Addr())
	check(t, err)
	started := make(chan error)
	go func() { started <- s.Start() }()
	select {
	case err := <-started:
		t.Errorf("Start with a taken port: %v", err)
	case <-time.After(300 * time.Millisecond):
		check(t, other.Close())
		check(t, <-started)
	}
	connect(t, s.URL())
}

func TestPostgresServersAreApart(t *testing.T) {
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			s, err := testserver.StartPostgres()
			if errors.Is(err, exec.ErrNotFound) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			c, err := pgx.Connect(background(), s.URL())
			if err == nil {
				_, err = c.Exec(background(), "CREATE TABLE t ()")
			}
			if err := errors.Join(err, s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A directory that only root can enter is no place for a server of another user.
func TestPostgresInAPrivateDirectory(t *testing.T) {
	testserver.NewPostgres(t) // skips where there is none
	dir := temporary(t)
	check(t, os.Chmod(dir, 0o700))
	s, err := testserver.StartPostgres()
	check(t, err)
	defer func() { check(t, s.Close()) }()
	data := value[string](t, connect(t, s.URL()), "SHOW data_directory")
	if inside := strings.HasPrefix(data, dir); inside == (os.Geteuid() == 0) {
		t.Errorf("its directory is in TMPDIR: %t", inside)
	}
}

// The kernel ends a child together with the thread that made it.
func TestPostgresOutlivesTheThread(t *testing.T) {
	testserver.NewPostgres(t) // skips where there is none
	started := make(chan *testserver.Postgres)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		s, err := testserver.StartPostgres()
		if err != nil {
			t.Error(err)
		}
		started <- s
	}()
	s := <-started
	if s == nil {
		return
	}
	defer func() { check(t, s.Close()) }()
	c := connect(t, s.URL())
	for range 10 {
		time.Sleep(5 * time.Millisecond)
		sql(t, c, "SELECT 1")
	}
}
