package tokencache

import (
	"context"
	"errors"
	"time"
)

// acquire takes the lease on the partition, waiting while another machine
// holds it, and keeps it renewed until release. Where the provider has no
// leases it does nothing.
//
// A lease that is lost meanwhile is not an error: the request to the server
// may be under way, and abandoning it would lose the answer. Conditions keep
// the two machines' writes apart.
func (f *flight) acquire(ctx context.Context) (release func(), err error) {
	store := &f.p.cache.store
	if store.caps.Leaser == nil {
		return func() {}, nil
	}
	var lease Lease
	for {
		err := store.call(ctx, "lease", func(ctx context.Context) (err error) {
			lease, err = store.caps.Leaser.Acquire(ctx, f.name, leaseTTL)
			return err
		})
		if err == nil {
			break
		}
		if !errors.Is(err, ErrBusy) {
			return nil, busy(err)
		}
		sleep(ctx, leasePoll)
		if ctx.Err() != nil {
			return nil, ErrBusy
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		renew(ctx, store, lease)
	}()
	return func() {
		cancel()
		<-done
		_ = store.call(context.WithoutCancel(ctx), "release", lease.Release)
	}, nil
}

// renew is the watchdog: a slow server must not cost the lease.
func renew(ctx context.Context, store *store, lease Lease) {
	tick := time.NewTicker(leaseTTL / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := store.call(ctx, "renew", func(ctx context.Context) error {
			return lease.Renew(ctx, leaseTTL)
		})
		if errors.Is(err, ErrConflict) {
			return // lost: there is nothing left to renew
		}
	}
}
