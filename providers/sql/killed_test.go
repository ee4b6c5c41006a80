package sql_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// The whole suite while the server is killed and started again, over and over.
// The provider is as stubborn as a Cache is: it repeats what had no answer, and
// tells its own save from a conflict by the version.
func TestConformanceWhileKilled(t *testing.T) {
	t.Parallel()
	s := testserver.NewPostgres(t, "max_connections = 300")
	killer := kill(t, s)
	h := machines(func(t *testing.T, o *sqlprovider.Options) *sqlprovider.Database {
		return sqlprovider.Postgres(pool(t, s.URL()), o)
	}, sqlprovider.Options{})
	h.Expiry = 1200 * time.Millisecond // an outage must not outlast what a test waits for
	first, second := h.New, h.Peer
	h.New = func(t *testing.T) tokencache.Provider { return &stubborn{Provider: first(t), killer: killer} }
	h.Peer = func(t *testing.T, p tokencache.Provider) tokencache.Provider {
		return &stubborn{Provider: second(t, p.(*stubborn).Provider), killer: killer}
	}
	t.Run("Suite", func(t *testing.T) { providertest.Run(t, h) })
	if times := killer.stop(); times < 3 {
		t.Errorf("the server was killed %d times only", times)
	}
}

// killer kills a server and starts it again until it is told to stop.
type killer struct {
	stop   func() (times int)
	times  atomic.Int64
	events atomic.Int64 // kills that begin, and starts that are over
}

func kill(t *testing.T, s *testserver.Postgres) *killer {
	t.Helper()
	var killing sync.WaitGroup
	k := &killer{}
	ctx, cancel := context.WithCancel(t.Context())
	killing.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(2500 * time.Millisecond):
			}
			k.events.Add(1)
			if err := errors.Join(s.Kill(), s.Start()); err != nil {
				t.Error(err)
				return
			}
			k.times.Add(1)
			k.events.Add(1)
		}
	})
	k.stop = func() int {
		cancel()
		killing.Wait()
		return int(k.times.Load())
	}
	t.Cleanup(func() { k.stop() })
	return k
}

// stubborn repeats calls that had no answer.
type stubborn struct {
	tokencache.Provider
	killer  *killer
	granted atomic.Int64 // the killer's events, as of the last lease
	saved   sync.Map     // versions that were acknowledged
}

// loaded are the versions and marks that somebody has loaded: who saved one of them
// has saved it, also if another one is there by now.
var loaded sync.Map

// again calls f until it has an answer that the contract names, and tells whether
// an earlier call may have been carried out.
func again(ctx context.Context, f func() error, answers ...error) (repeated bool, err error) {
	for {
		err := f()
		known := err == nil || ctx.Err() != nil
		for _, a := range answers {
			known = known || errors.Is(err, a)
		}
		if known {
			return repeated, err
		}
		repeated = true
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *stubborn) Load(ctx context.Context, n tokencache.Name) (r tokencache.Record, err error) {
	_, err = again(ctx, func() error {
		r, err = p.Provider.Load(ctx, n)
		return err
	}, tokencache.ErrNotFound, tokencache.ErrTooLarge)
	loaded.Store(r.Version, true)
	loaded.Store(r.Mark, true)
	return r, err
}

func (p *stubborn) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	tried := false
	_, err := again(ctx, func() error {
		// Without a condition it would be carried out once more, over what has come since.
		if tried && c.Unconditional() {
			_, lerr := p.Load(ctx, n)
			if _, ok := loaded.Load(r.Version); ok && lerr == nil {
				return nil
			}
		}
		tried = true
		return p.Provider.Save(ctx, n, r, c)
	}, tokencache.ErrConflict, tokencache.ErrRemoved, tokencache.ErrTooLarge)
	// The provider repeats too, and does not tell.
	if _, before := p.saved.Load(r.Version); !before && errors.Is(err, tokencache.ErrConflict) {
		_, lerr := p.Load(ctx, n)
		if _, ok := loaded.Load(r.Version); ok && lerr == nil {
			err = nil
		}
	}
	if err == nil {
		p.saved.Store(r.Version, true)
	}
	return err
}

func (p *stubborn) Capabilities() tokencache.Capabilities {
	caps := p.Provider.Capabilities()
	caps.Leaser = stubbornLeaser{caps.Leaser, p}
	caps.Toucher = stubbornToucher{caps.Toucher}
	caps.Owners = stubbornOwners{caps.Owners}
	caps.Lister = stubbornLister{caps.Lister}
	caps.Sweeper = stubbornSweeper{caps.Sweeper}
	caps.Pinger = nil  // it is down at times
	caps.Watcher = nil // changes are lost with the connection, and Missed tells that they were
	return caps
}

type stubbornLeaser struct {
	tokencache.Leaser
	p *stubborn
}

// Acquire waits for a lease that it may have got without an answer, which the
// provider gives back, and for the time after a start in which none is granted.
// That time begins with the first lease that would have been: one that somebody
// else holds tells a provider nothing about the server.
func (p stubbornLeaser) Acquire(ctx context.Context, n tokencache.Name, ttl time.Duration) (lease tokencache.Lease, err error) {
	f := func() error {
		lease, err = p.Leaser.Acquire(ctx, n, ttl)
		return err
	}
	events := p.p.killer.events.Load()
	repeated, err := again(ctx, f, tokencache.ErrBusy)
	repeated = repeated || p.p.granted.Load() != events
	for end := time.Now().Add(2 * time.Second); repeated && errors.Is(err, tokencache.ErrBusy) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		_, err = again(ctx, f, tokencache.ErrBusy)
	}
	if err != nil {
		return nil, err
	}
	p.p.granted.Store(events)
	return stubbornLease{lease}, nil
}

type stubbornLease struct{ tokencache.Lease }

func (p stubbornLease) Renew(ctx context.Context, ttl time.Duration) error {
	_, err := again(ctx, func() error { return p.Lease.Renew(ctx, ttl) }, tokencache.ErrConflict)
	return err
}

func (p stubbornLease) Release(ctx context.Context) error {
	_, err := again(ctx, func() error { return p.Lease.Release(ctx) })
	return err
}

type stubbornToucher struct{ tokencache.Toucher }

func (p stubbornToucher) Touch(ctx context.Context, n tokencache.Name, v tokencache.Version, expires time.Time) error {
	_, err := again(ctx, func() error { return p.Toucher.Touch(ctx, n, v, expires) }, tokencache.ErrConflict, tokencache.ErrNotFound)
	return err
}

type stubbornOwners struct{ tokencache.OwnerIndex }

func (p stubbornOwners) SetMark(ctx context.Context, owner string, mark tokencache.Version, expires time.Time) error {
	tried := false
	_, err := again(ctx, func() error {
		if _, ok := loaded.Load(mark); ok && tried { // as with a save without a condition
			return nil
		}
		tried = true
		return p.OwnerIndex.SetMark(ctx, owner, mark, expires)
	})
	return err
}

func (p stubbornOwners) List(ctx context.Context, owner string) (names []tokencache.Name, err error) {
	_, err = again(ctx, func() error {
		names, err = p.OwnerIndex.List(ctx, owner)
		return err
	})
	return names, err
}

type stubbornSweeper struct{ tokencache.Sweeper }

func (p stubbornSweeper) Sweep(ctx context.Context) (total int, err error) {
	_, err = again(ctx, func() error {
		count, err := p.Sweeper.Sweep(ctx)
		total += count
		return err
	})
	return total, err
}

type stubbornLister struct{ tokencache.Lister }

func (p stubbornLister) Names(ctx context.Context, cursor string) (names []tokencache.Name, next string, err error) {
	_, err = again(ctx, func() error {
		names, next, err = p.Lister.Names(ctx, cursor)
		return err
	}, tokencache.ErrCursor)
	return names, next, err
}
