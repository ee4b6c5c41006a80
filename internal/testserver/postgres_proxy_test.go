package testserver_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

// insert is a prepared statement, which is carried out in one round trip.
const insert = "insert"

// behindPostgres is a server, a proxy in front of it, and a connection to each.
func behindPostgres(t *testing.T) (p *testserver.Proxy, url string, direct, through *pgx.Conn) {
	t.Helper()
	s := testserver.NewPostgres(t)
	p = testserver.NewProxy(t, s.Addr())
	url = s.URLAt(p.Addr())
	direct, through = connect(t, s.URL()), connect(t, url)
	sql(t, direct, "CREATE TABLE t (n int)")
	_, err := through.Prepare(t.Context(), insert, "INSERT INTO t VALUES ($1)")
	check(t, err)
	return p, url, direct, through
}

// insertRow is given up after a while.
func insertRow(t *testing.T, c *pgx.Conn, limit time.Duration, n int) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := c.Exec(ctx, insert, n)
	return err
}

func rows(t *testing.T, direct *pgx.Conn, want string) {
	t.Helper()
	if got := value[string](t, direct, rowsOfT); got != want {
		t.Errorf("rows %q, want %q", got, want)
	}
}

func TestProxyForwardsPostgres(t *testing.T) {
	p, url, _, through := behindPostgres(t)
	big := strings.Repeat("0123456789", 300_000)
	var got string
	check(t, through.QueryRow(t.Context(), "SELECT $1::text", big).Scan(&got))
	if got != big {
		t.Errorf("%d bytes came back, want %d", len(got), len(big))
	}
	p.Set(testserver.Fault{Chunk: 3, Delay: time.Millisecond})
	sql(t, connect(t, url), "INSERT INTO t VALUES (1)")
}

func TestProxyCutsPostgres(t *testing.T) {
	p, url, direct, through := behindPostgres(t)
	p.Set(testserver.Fault{Cut: true})
	if err := insertRow(t, through, patience, 1); !ended(err) {
		t.Errorf("through a connection that was cut: %v", err)
	}
	if _, err := pgx.Connect(t.Context(), url); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v", err)
	}
	eventually(t, func() error { // the server has noticed too
		if n := value[int](t, direct, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"); n != 1 {
			return errors.New("the server has a connection that was cut")
		}
		return nil
	})
	p.Heal()
	sql(t, connect(t, url), "INSERT INTO t VALUES (2)")
	rows(t, direct, "2")
}

// ended tells whether the other side has closed or reset a connection.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func TestProxyHangsPostgres(t *testing.T) {
	p, url, direct, through := behindPostgres(t)
	p.Set(testserver.Fault{Hang: true})
	if err := insertRow(t, through, 100*time.Millisecond, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("through a connection that hangs: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := pgx.Connect(ctx, url); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a new connection: %v", err)
	}
	rows(t, direct, "")
	p.Heal()
	connect(t, url)
	// What was held goes on, though its client has gone.
	eventually(t, func() error {
		if got := value[string](t, direct, rowsOfT); got != "1" {
			return errors.New("rows " + got)
		}
		return nil
	})
}

func TestProxyMakesPostgresHalfOpen(t *testing.T) {
	p, url, direct, through := behindPostgres(t)
	p.Set(testserver.Fault{HalfOpen: true})
	sql(t, connect(t, url), "INSERT INTO t VALUES (1)")
	if err := insertRow(t, through, 100*time.Millisecond, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("through a connection that is half open: %v", err)
	}
	rows(t, direct, "1")
}

// The statement is carried out, and the client cannot know.
func TestProxyDropsRepliesOfPostgres(t *testing.T) {
	p, url, direct, through := behindPostgres(t)
	p.Set(testserver.Fault{DropReplies: true, Times: 1})
	if err := insertRow(t, through, patience, 1); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without its reply: %v", err)
	}
	rows(t, direct, "1")
	sql(t, connect(t, url), "INSERT INTO t VALUES (2)")
	rows(t, direct, "1,2")

	p.Set(testserver.Fault{ResetAfter: 10})
	if _, err := pgx.Connect(t.Context(), url); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that is reset while it is made: %v", err)
	}
}

// What pgx says of a statement without arguments whose answer is lost is not to be
// relied upon: that it was never sent.
func TestPgxHidesALostReply(t *testing.T) {
	p, _, direct, through := behindPostgres(t)
	p.Set(testserver.Fault{DropReplies: true, Times: 1})
	_, err := through.Exec(t.Context(), "INSERT INTO t VALUES (1)")
	if !errors.Is(err, pgconn.ErrConnClosed) || !pgconn.SafeToRetry(err) {
		t.Errorf("pgx has been mended, and says: %v", err)
	}
	rows(t, direct, "1")
}

func TestProxyRetargetsPostgres(t *testing.T) {
	p, url, _, through := behindPostgres(t)
	other := testserver.NewPostgres(t)
	p.Retarget(other.Addr())
	sql(t, connect(t, url), "CREATE TABLE other ()")
	sql(t, through, "SELECT FROM t")
}
