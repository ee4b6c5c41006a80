package tokencache

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// releaseMost bounds the leases that are given back behind their flights, and those
// that are remembered. What is more runs out.
const releaseMost = 1024

// released are the leases that were given back a short time ago.
type released struct {
	mu    sync.Mutex
	all   []givenBack // the first that ends, first
	again atomic.Bool // they are being given back once more
}

type givenBack struct {
	lease Lease
	ends  time.Time // when it must have run out
}

func (r *released) add(one givenBack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(time.Now())
	r.all = append(r.all, one)
	r.all = r.all[max(0, len(r.all)-releaseMost):]
}

// list returns those that would not have run out yet.
func (r *released) list() []givenBack {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(time.Now())
	return slices.Clone(r.all)
}

// prune is called with the lock held.
func (r *released) prune(now time.Time) {
	over := 0
	for over < len(r.all) && !now.Before(r.all[over].ends) {
		over++
	}
	r.all = slices.Delete(r.all, 0, over)
}

// release gives the lease back. If the provider does not answer, that is tried
// again, with nobody waiting, until the lease must have run out: everybody else
// would wait as long. Closing the cache ends it.
func (c *Cache) release(ctx context.Context, lease Lease) {
	one := givenBack{lease, time.Now().Add(leaseTTL)} // a renewal may have been under way
	c.released.add(one)
	if c.releaseOnce(ctx, one) || !c.releasing.TryAcquire(1) {
		return
	}
	if c.begin() != nil {
		c.releasing.Release(1)
		return
	}
	go func() {
		defer c.work.Done()
		defer c.releasing.Release(1)
		c.releaseLater(ctx, one)
	}()
}

// releaseAgain gives back once more what was given back, after the store may have
// failed over: it may have lost that, and would have everybody wait until it runs
// out. Whoever has such a lease by now has another one, and keeps it.
func (c *Cache) releaseAgain(ctx context.Context) {
	list := c.released.list()
	if len(list) == 0 || !c.released.again.CompareAndSwap(false, true) {
		return
	}
	if c.begin() != nil {
		c.released.again.Store(false)
		return
	}
	go func() {
		defer c.work.Done()
		defer c.released.again.Store(false)
		var group errgroup.Group
		group.SetLimit(restoreAtOnce)
		for _, one := range list {
			group.Go(func() error {
				if ctx.Err() == nil && time.Now().Before(one.ends) && !c.releaseOnce(ctx, one) {
					c.releaseLater(ctx, one)
				}
				return nil
			})
		}
		_ = group.Wait()
	}()
}

// releaseOnce tells whether the provider has answered.
func (c *Cache) releaseOnce(ctx context.Context, one givenBack) bool {
	err := guarded(func() error { return c.store.calls.do(ctx, "release", one.lease.Release) })
	return !errors.Is(err, ErrUnavailable)
}

func (c *Cache) releaseLater(ctx context.Context, one givenBack) {
	for c.open() && time.Now().Before(one.ends) {
		sleep(ctx, unsavedRetry)
		if c.releaseOnce(ctx, one) {
			return
		}
	}
}
