package sql_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// inOneGo has statements sent whole: a server that hangs while one is prepared has
// not seen it.
func inOneGo(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec }

// A lease whose reply was lost keeps nobody waiting until it runs out.
func TestLeaseInDoubt(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]testserver.Fault{
		"the reply is lost":      {DropReplies: true},
		"the request comes late": {Delay: 400 * time.Millisecond},
		"both hang":              {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, s, here := proxied(t, inOneGo)
			there, n := newProvider(t, sqlprovider.Postgres(pool(t, s.URL()), nil)), newName()
			must(t, here.Ping(t.Context()))
			proxy.Set(fault)
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
				lease, err := here.Acquire(ctx, n, 10*time.Second)
				cancel()
				if err == nil || lease != nil || errors.Is(err, tokencache.ErrBusy) {
					t.Fatalf("lease %v, error %v", lease != nil, err)
				}
			}
			proxy.Heal()
			var lease tokencache.Lease
			eventually(t, 3*time.Second, "the lease is free", func() (free bool) {
				var err error
				lease, err = there.Acquire(t.Context(), n, 10*time.Second)
				return err == nil
			})
			// And what comes still later takes it from nobody.
			time.Sleep(500 * time.Millisecond)
			must(t, lease.Renew(t.Context(), 10*time.Second))
		})
	}
}

// A server that hangs for longer than a lease lasts grants it when it wakes up:
// nobody has waited for it, and it is given back all the same.
func TestLeaseGrantedLate(t *testing.T) {
	t.Parallel()
	const ttl = 4 * time.Second
	s, p, _ := start(t, inOneGo)
	other, n := newProvider(t, sqlprovider.Postgres(pool(t, s.URL()), nil)), newName()
	must(t, errors.Join(p.Ping(t.Context()), other.Ping(t.Context())))
	must(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	if _, err := p.Acquire(ctx, n, ttl); err == nil {
		t.Fatal("the server hangs, and has granted a lease")
	}
	time.Sleep(ttl + time.Second)
	must(t, s.Resume())
	must(t, other.Ping(t.Context()))
	eventually(t, ttl/2, "the lease was given back", func() bool {
		_, err := other.Acquire(t.Context(), n, ttl)
		return err == nil
	})
}

func TestLeaseNotAsked(t *testing.T) {
	t.Parallel()
	p := newProvider(t, sqlprovider.Postgres(pool(t, sharedURL(t)), &sqlprovider.Options{Prefix: newPrefix()}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Acquire(ctx, newName(), time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// Close does not wait for what cannot be given back.
func TestCloseInDoubt(t *testing.T) {
	t.Parallel()
	s, p, _ := start(t)
	must(t, p.Ping(t.Context()))
	must(t, s.Pause())
	defer func() { _ = s.Resume() }()
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := p.Acquire(ctx, newName(), 10*time.Second)
		cancel()
		if err == nil {
			t.Fatal("a lease from a server that hangs")
		}
	}
	began := time.Now()
	must(t, p.Close(t.Context()))
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close took %v", took)
	}
	must(t, p.Close(t.Context()))
}

// After a start of the server, which may be another one that took its place, no
// machine gets a lease until all have had a moment to notice: not even the first
// to ask, and of who has asked meanwhile nothing is left.
func TestLeaseAfterStart(t *testing.T) {
	t.Parallel()
	s, p, _ := start(t)
	n := newName()
	lease, err := p.Acquire(t.Context(), n, time.Minute)
	must(t, err)
	must(t, lease.Release(t.Context()))
	must(t, errors.Join(s.Stop(), s.Start()))
	began := time.Now()
	if _, err := p.Acquire(t.Context(), n, time.Minute); !errors.Is(err, tokencache.ErrBusy) {
		t.Errorf("at once: %v", err)
	}
	fresh := newProvider(t, sqlprovider.Postgres(pool(t, s.URL()), nil)) // knows no other server
	lease, err = fresh.Acquire(t.Context(), n, time.Minute)
	must(t, err)
	must(t, lease.Release(t.Context()))
	eventually(t, 2*time.Second, "a lease", func() bool {
		_, err := p.Acquire(t.Context(), n, time.Minute)
		return err == nil
	})
	if waited := time.Since(began); waited < 450*time.Millisecond {
		t.Errorf("a lease was granted after %v", waited)
	}
}

// Many ask at the moment in which one of them is the first to notice.
func TestLeasesAfterStart(t *testing.T) {
	t.Parallel()
	s, p, _ := start(t)
	must(t, errors.Join(s.Stop(), s.Start()))
	var granted atomic.Int64
	var crowd sync.WaitGroup
	for range 100 {
		crowd.Go(func() {
			if _, err := p.Acquire(t.Context(), newName(), time.Minute); err == nil {
				granted.Add(1)
			} else if !errors.Is(err, tokencache.ErrBusy) {
				t.Error(err)
			}
		})
	}
	began := time.Now()
	crowd.Wait()
	if n := granted.Load(); n > 0 && time.Since(began) < 400*time.Millisecond {
		t.Errorf("%d leases were granted", n)
	}
}

// noDeletes is a pool that does not get to the server with a DELETE, while on.
type noDeletes struct {
	*pgxpool.Pool
	on atomic.Bool
}

func (d *noDeletes) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if d.on.Load() && strings.Contains(sql, "DELETE") {
		return unsent{}
	}
	return d.Pool.QueryRow(ctx, sql, args...)
}

type unsent struct{}

func (unsent) Scan(...any) error { return unsent{} }
func (unsent) Error() string     { return "it was not sent" }
func (unsent) SafeToRetry() bool { return true }

// A lease that is not to be had so early, and cannot be given back at once, is
// given back later.
func TestLeaseAfterStartInDoubt(t *testing.T) {
	t.Parallel()
	s, _, _ := start(t)
	db, n := &noDeletes{Pool: pool(t, s.URL())}, newName()
	p := newProvider(t, sqlprovider.Postgres(db, nil))
	must(t, errors.Join(s.Stop(), s.Start()))
	db.on.Store(true)
	if _, err := p.Acquire(t.Context(), n, time.Minute); err == nil || errors.Is(err, tokencache.ErrBusy) {
		t.Fatalf("the error is %v: the test looks at nothing", err)
	}
	db.on.Store(false)
	other := newProvider(t, sqlprovider.Postgres(pool(t, s.URL()), nil))
	eventually(t, 3*time.Second, "the lease is free", func() bool {
		_, err := other.Acquire(t.Context(), n, time.Minute)
		return err == nil
	})
}
