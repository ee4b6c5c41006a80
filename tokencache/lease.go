package tokencache

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// held is a lease that this process has, or had, or has no need of.
type held struct {
	until atomic.Int64 // when it ends if it is not renewed, in nanoseconds since 1970; never for 0
	end   func()       // gives it back; called once
}

// holds tells whether the lease is still this machine's. A machine that was
// suspended finds out by its clock that it is not.
func (h *held) holds() bool {
	until := h.until.Load()
	return until == 0 || time.Now().UnixNano() < until
}

// acquire takes the lease on the partition, waiting while another machine
// holds it, and keeps it renewed until it is given back. Where the provider has
// no leases there is nothing to hold.
//
// A lease that is lost while the server is asked is not an error: abandoning the
// request would lose its answer. Conditions keep the two machines' writes apart.
func (f *flight) acquire(ctx context.Context) (*held, error) {
	if f.p.cache.store.caps.Leaser == nil {
		f.p.tell(ctx, Event{Kind: EventLease, Detail: detailNone})
		return &held{end: func() {}}, nil
	}
	began := time.Now()
	lease, asked, err := f.await(ctx, began)
	if err != nil {
		return nil, err
	}
	f.p.tell(ctx, Event{Kind: EventLease, Detail: detailAcquired, Duration: time.Since(began)})
	h := &held{}
	h.until.Store(asked.Add(leaseTTL).UnixNano())
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.watchdog(ctx, h, lease)
	}()
	h.end = func() {
		cancel()
		<-done
		f.p.cache.release(context.WithoutCancel(ctx), lease)
	}
	return h, nil
}

// await asks for the lease until it is there, and returns when it asked last.
func (f *flight) await(ctx context.Context, began time.Time) (lease Lease, asked time.Time, err error) {
	store := &f.p.cache.store
	for waiting := false; ; waiting = true {
		asked = time.Now()
		lease, err = callOr(ctx, store.calls, "lease", func(ctx context.Context) (Lease, error) {
			return store.caps.Leaser.Acquire(ctx, f.name, leaseTTL)
		}, giveBack)
		switch {
		case err == nil:
			if waiting {
				f.p.tell(ctx, Event{Kind: EventWait, Detail: detailLease, Duration: time.Since(began)})
			}
			return lease, asked, nil
		case errors.Is(err, errNotAsked):
			return nil, asked, err
		case !errors.Is(err, ErrBusy):
			f.p.tell(ctx, Event{Kind: EventLease, Detail: detailFailed, Duration: time.Since(began), Err: err})
			return nil, asked, busy(err)
		case !waiting:
			f.p.tell(ctx, Event{Kind: EventLease, Detail: detailBusy})
		}
		sleep(ctx, leasePoll)
		if ctx.Err() != nil {
			return nil, asked, ErrBusy
		}
	}
}

// giveBack releases a lease that came when nobody waited for it any more: or
// others would wait until it runs out.
func giveBack(lease Lease) {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	_ = guarded(func() error { return lease.Release(ctx) })
}

// watchdog renews the lease: a slow server must not cost it.
func (f *flight) watchdog(ctx context.Context, h *held, lease Lease) {
	tick := time.NewTicker(leaseTTL / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		err := guarded(func() error {
			return f.p.cache.store.calls.do(ctx, "renew", func(ctx context.Context) error {
				return lease.Renew(ctx, leaseTTL)
			})
		})
		switch {
		case err == nil:
			h.until.Store(asked.Add(leaseTTL).UnixNano())
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrConflict):
			h.until.Store(1) // long ago
			f.p.tell(ctx, Event{Kind: EventLease, Detail: detailLost})
			return
		default:
			f.p.tell(ctx, Event{Kind: EventLease, Detail: detailFailed, Err: err})
		}
	}
}
