package redis_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// The whole suite while the server is killed and started again, over and over.
// The provider is as stubborn as a Cache is: it repeats what had no answer, and
// tells its own save from a conflict by the version.
func TestConformanceWhileKilled(t *testing.T) {
	t.Parallel()
	// What is acknowledged is in the append-only file before the reply is sent.
	s := testserver.NewRedis(t, "appendonly yes", "appendfsync always")
	stop := kill(t, s)
	h := machines(func(t *testing.T) redis.UniversalClient {
		// The client's own repetitions would not tell that there were any.
		return connect(t, s.Addr(), patient, func(o *redis.UniversalOptions) { o.MaxRetries = -1 })
	})
	h.Expiry = 600 * time.Millisecond // an outage must not outlast what a test waits for
	first, second := h.New, h.Peer
	h.New = func(t *testing.T) tokencache.Provider { return &stubborn{Provider: first(t)} }
	h.Peer = func(t *testing.T, p tokencache.Provider) tokencache.Provider {
		return &stubborn{Provider: second(t, p.(*stubborn).Provider)}
	}
	t.Run("Suite", func(t *testing.T) { providertest.Run(t, h) })
	if times := stop(); times < 3 {
		t.Errorf("the server was killed %d times only", times)
	}
}

// kill kills the server and starts it again until it is told to stop, and then
// returns how often.
func kill(t *testing.T, s *testserver.Redis) (stop func() int) {
	t.Helper()
	var times int
	var killing sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	killing.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(700 * time.Millisecond):
			}
			if err := errors.Join(s.Kill(), s.Start()); err != nil {
				t.Error(err)
				return
			}
			times++
		}
	})
	stop = func() int {
		cancel()
		killing.Wait()
		return times
	}
	t.Cleanup(func() { stop() })
	return stop
}

// stubborn repeats calls that had no answer.
type stubborn struct {
	tokencache.Provider
	saved sync.Map // versions that were acknowledged
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
	// The driver repeats too, and does not tell.
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
	caps.Leaser = stubbornLeaser{caps.Leaser}
	caps.Toucher = stubbornToucher{caps.Toucher}
	caps.Owners = stubbornOwners{caps.Owners}
	caps.Lister = stubbornLister{caps.Lister}
	caps.Pinger = nil  // it is down at times
	caps.Watcher = nil // changes are lost with the connection, and Missed tells that they were
	return caps
}

type stubbornLeaser struct{ tokencache.Leaser }

// Acquire waits for a lease that it may have got without an answer: the provider
// gives it back.
func (p stubbornLeaser) Acquire(ctx context.Context, n tokencache.Name, ttl time.Duration) (lease tokencache.Lease, err error) {
	f := func() error {
		lease, err = p.Leaser.Acquire(ctx, n, ttl)
		return err
	}
	repeated, err := again(ctx, f, tokencache.ErrBusy)
	for end := time.Now().Add(time.Second); repeated && errors.Is(err, tokencache.ErrBusy) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		_, err = again(ctx, f, tokencache.ErrBusy)
	}
	if err != nil {
		return nil, err
	}
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

type stubbornLister struct{ tokencache.Lister }

func (p stubbornLister) Names(ctx context.Context, cursor string) (names []tokencache.Name, next string, err error) {
	_, err = again(ctx, func() error {
		names, next, err = p.Lister.Names(ctx, cursor)
		return err
	}, tokencache.ErrCursor)
	return names, next, err
}
