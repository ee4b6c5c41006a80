package testserver_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

const (
	rowsOfT    = "SELECT coalesce(string_agg(n::text, ',' ORDER BY n), '') FROM t"
	noSuch     = "42P01" // undefined_table
	onlyToRead = "25006" // read_only_sql_transaction
)

// A standby has what was committed before replication paused. When it takes the
// primary's place, what came after is lost.
func TestPostgresPairLosesWrites(t *testing.T) {
	p := testserver.NewPostgresPair(t)
	primary, standby := connect(t, p.Primary.URL()), connect(t, p.Standby.URL())
	sql(t, primary, "CREATE TABLE t (n int)")
	for range 2 {
		sql(t, primary, "INSERT INTO t VALUES (1)")
	}
	check(t, p.PauseReplication(t.Context()))
	if got := value[string](t, standby, rowsOfT); got != "1,1" {
		t.Errorf("the standby has %q, want what was committed before", got)
	}
	sql(t, primary, "INSERT INTO t VALUES (2)")
	time.Sleep(300 * time.Millisecond) // longer than the standby takes to try again
	if got := value[string](t, standby, rowsOfT); got != "1,1" {
		t.Errorf("the standby has %q, want nothing of what came later", got)
	}
	var failed *pgconn.PgError
	if _, err := standby.Exec(t.Context(), "INSERT INTO t VALUES (3)"); !errors.As(err, &failed) || failed.Code != onlyToRead {
		t.Errorf("a write to the standby: %v", err)
	}
	check(t, p.ResumeReplication(t.Context()))
	if got := value[string](t, standby, rowsOfT); got != "1,1,2" {
		t.Errorf("the standby has %q after replication went on", got)
	}

	check(t, p.PauseReplication(t.Context()))
	sql(t, primary, "INSERT INTO t VALUES (4)")
	check(t, p.Primary.Kill())
	check(t, p.Promote(t.Context()))
	sql(t, standby, "INSERT INTO t VALUES (5)") // this connection too: it is not cut
	if got := value[string](t, standby, rowsOfT); got != "1,1,2,5" {
		t.Errorf("the new primary has %q, want what came before the pause", got)
	}
	check(t, p.Standby.Kill())
	check(t, p.Standby.Start())
	sql(t, connect(t, p.Standby.URL()), "INSERT INTO t VALUES (6)") // it stays the primary
	check(t, p.Primary.Start())
	if got := value[string](t, connect(t, p.Primary.URL()), rowsOfT); got != "1,1,2,4" {
		t.Errorf("the old primary has %q, want what it acknowledged", got)
	}
}

// A pool with the URL of both finds the new primary.
func TestPostgresPairURL(t *testing.T) {
	p := testserver.NewPostgresPair(t, "max_connections = 20")
	pool, err := pgxpool.New(t.Context(), p.URL())
	check(t, err)
	defer pool.Close()
	serverOf := func() (connections, port string, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = pool.QueryRow(ctx, "SELECT current_setting('max_connections'), current_setting('port')").Scan(&connections, &port)
		return connections, port, err
	}
	connections, port, err := serverOf()
	check(t, err)
	if "127.0.0.1:"+port != p.Primary.Addr() || connections != "20" {
		t.Errorf("connected to port %s with %s connections at most", port, connections)
	}
	if got := value[string](t, connect(t, p.Standby.URL()), "SHOW max_connections"); got != "20" {
		t.Errorf("the standby takes %s connections", got)
	}
	check(t, p.Primary.Kill())
	if _, _, err := serverOf(); err == nil {
		t.Error("the killed primary answers")
	}
	if _, _, err := serverOf(); err == nil {
		t.Error("the standby is taken for a primary")
	}
	check(t, p.Promote(t.Context()))
	_, port, err = serverOf()
	check(t, err)
	if "127.0.0.1:"+port != p.Standby.Addr() {
		t.Errorf("connected to port %s, want the new primary", port)
	}
}

// A primary that hangs is left behind if connecting has a limit.
func TestPostgresPairPausedPrimary(t *testing.T) {
	p := testserver.NewPostgresPair(t)
	check(t, p.Primary.Pause())
	check(t, p.Promote(t.Context()))
	c := connect(t, p.URL()+"&connect_timeout=1")
	if port := value[string](t, c, "SHOW port"); "127.0.0.1:"+port != p.Standby.Addr() {
		t.Errorf("connected to port %s, want the new primary", port)
	}
}

// A promoted standby has all that reached it, even if nobody waited for that.
func TestPostgresPairPromotesWithTheStream(t *testing.T) {
	p := testserver.NewPostgresPair(t)
	sql(t, connect(t, p.Primary.URL()), "CREATE TABLE t (n int)", "INSERT INTO t SELECT * FROM generate_series(1, 1000)")
	check(t, p.Primary.Stop()) // it waits until the standby has everything
	check(t, p.Promote(t.Context()))
	if n := value[int](t, connect(t, p.Standby.URL()), "SELECT count(*) FROM t"); n != 1000 {
		t.Errorf("%d rows, want 1000", n)
	}
	check(t, p.Close())
	check(t, p.Close())
	refused(t, p.Primary.Addr())
	refused(t, p.Standby.Addr())
}

// Two pairs do not have each other's tables.
func TestPostgresPairsAreApart(t *testing.T) {
	dir := temporary(t)
	p, other := testserver.NewPostgresPair(t), testserver.NewPostgresPair(t)
	sql(t, connect(t, p.Primary.URL()), "CREATE TABLE t (n int)")
	check(t, p.PauseReplication(t.Context()))
	check(t, other.PauseReplication(t.Context()))
	var failed *pgconn.PgError
	err := connect(t, other.Standby.URL()).QueryRow(t.Context(), rowsOfT).Scan(new(string))
	if !errors.As(err, &failed) || failed.Code != noSuch {
		t.Errorf("a table of another pair: %v", err)
	}
	check(t, errors.Join(p.Close(), other.Close()))
	empty(t, dir)
}

// What cannot be done is an error within the time given.
func TestPostgresPairThatIsDown(t *testing.T) {
	p := testserver.NewPostgresPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	check(t, p.Primary.Kill())
	if err := p.PauseReplication(ctx); err == nil {
		t.Error("replication from a server that is down was paused")
	}
	check(t, p.Primary.Start())
	check(t, p.Standby.Pause())
	if err := p.Promote(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("promote a server that does not answer: %v", err)
	}
	if _, err := pgx.Connect(ctx, p.Standby.URL()); err == nil {
		t.Error("a paused server took a connection")
	}
}
