package providertest

import (
	"context"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Capabilities returns those of the other provider, each behind the faults. See
// [tokencache.Provider].
func (f *Faults) Capabilities() tokencache.Capabilities {
	c := f.provider.Capabilities()
	c.Punctual = false // HangDeaf is not
	if c.Leaser != nil {
		c.Leaser = faultyLeaser{f, c.Leaser}
	}
	if c.Toucher != nil {
		c.Toucher = faultyToucher{f, c.Toucher}
	}
	if c.Owners != nil {
		c.Owners = faultyOwners{f, c.Owners}
	}
	if c.Watcher != nil {
		c.Watcher = faultyWatcher{f, c.Watcher}
	}
	if c.Sweeper != nil {
		c.Sweeper = faultySweeper{f, c.Sweeper}
	}
	if c.Pinger != nil {
		c.Pinger = faultyPinger{f, c.Pinger}
	}
	if c.Lister != nil {
		c.Lister = faultyLister{f, c.Lister}
	}
	return c
}

type faultyLeaser struct {
	f      *Faults
	leaser tokencache.Leaser
}

func (l faultyLeaser) Acquire(ctx context.Context, name tokencache.Name, ttl time.Duration) (tokencache.Lease, error) {
	var lease tokencache.Lease
	err := l.f.pass(ctx, &Call{Op: OpAcquire, Name: name, do: func(ctx context.Context) (err error) {
		lease, err = l.leaser.Acquire(ctx, name, ttl)
		return err
	}})
	if err == nil && lease == nil {
		err = ErrFault // a fault cannot acknowledge a lease that nobody gave
	}
	if err != nil {
		return nil, err
	}
	return faultyLease{l.f, name, lease}, nil
}

type faultyLease struct {
	f     *Faults
	name  tokencache.Name
	lease tokencache.Lease
}

func (l faultyLease) Renew(ctx context.Context, ttl time.Duration) error {
	return l.f.pass(ctx, &Call{Op: OpRenew, Name: l.name, do: func(ctx context.Context) error {
		return l.lease.Renew(ctx, ttl)
	}})
}

func (l faultyLease) Release(ctx context.Context) error {
	return l.f.pass(ctx, &Call{Op: OpRelease, Name: l.name, do: l.lease.Release})
}

type faultyToucher struct {
	f       *Faults
	toucher tokencache.Toucher
}

func (t faultyToucher) Touch(ctx context.Context, name tokencache.Name, v tokencache.Version, expires time.Time) error {
	return t.f.pass(ctx, &Call{Op: OpTouch, Name: name, do: func(ctx context.Context) error {
		return t.toucher.Touch(ctx, name, v, expires)
	}})
}

type faultyOwners struct {
	f      *Faults
	owners tokencache.OwnerIndex
}

func (o faultyOwners) SetMark(ctx context.Context, owner string, mark tokencache.Version, expires time.Time) error {
	name := tokencache.Name{Owner: owner}
	return o.f.pass(ctx, &Call{Op: OpSetMark, Name: name, do: func(ctx context.Context) error {
		return o.owners.SetMark(ctx, owner, mark, expires)
	}})
}

func (o faultyOwners) List(ctx context.Context, owner string) ([]tokencache.Name, error) {
	var names []tokencache.Name
	err := o.f.pass(ctx, &Call{Op: OpList, Name: tokencache.Name{Owner: owner}, do: func(ctx context.Context) (err error) {
		names, err = o.owners.List(ctx, owner)
		return err
	}})
	if err != nil {
		return nil, err
	}
	return names, nil
}

type faultyWatcher struct {
	f       *Faults
	watcher tokencache.Watcher
}

// Watch watches until the fault of OpWatch changes; see Set.
func (w faultyWatcher) Watch(ctx context.Context, notify func(tokencache.Change)) error {
	lost := false
	c := &Call{Op: OpWatch}
	c.do = func(ctx context.Context) (err error) {
		if lost {
			return ErrFault
		}
		lost, err = w.until(ctx, c.Over(), notify)
		return err
	}
	err := w.f.pass(ctx, c)
	if lost {
		return c.Do(ctx)
	}
	return err
}

// until watches until over is closed, and tells whether that was what ended it.
// Nothing is told once it has returned.
func (w faultyWatcher) until(
	ctx context.Context, over <-chan struct{}, notify func(tokencache.Change),
) (lost bool, err error) {
	connected, cut := context.WithCancel(ctx)
	var cutting sync.WaitGroup
	cutting.Go(func() {
		select {
		case <-over:
			cut()
		case <-connected.Done():
		}
	})
	err = w.watcher.Watch(connected, notify)
	lost = ctx.Err() == nil && connected.Err() != nil
	cut()
	cutting.Wait()
	return lost, err
}

type faultySweeper struct {
	f       *Faults
	sweeper tokencache.Sweeper
}

func (s faultySweeper) Sweep(ctx context.Context) (int, error) {
	var swept int
	err := s.f.pass(ctx, &Call{Op: OpSweep, do: func(ctx context.Context) (err error) {
		swept, err = s.sweeper.Sweep(ctx)
		return err
	}})
	return swept, err
}

type faultyPinger struct {
	f      *Faults
	pinger tokencache.Pinger
}

func (p faultyPinger) Ping(ctx context.Context) error {
	return p.f.pass(ctx, &Call{Op: OpPing, do: p.pinger.Ping})
}

type faultyLister struct {
	f      *Faults
	lister tokencache.Lister
}

func (l faultyLister) Names(ctx context.Context, cursor string) ([]tokencache.Name, string, error) {
	var names []tokencache.Name
	var next string
	err := l.f.pass(ctx, &Call{Op: OpNames, do: func(ctx context.Context) (err error) {
		names, next, err = l.lister.Names(ctx, cursor)
		return err
	}})
	if err != nil {
		return nil, "", err
	}
	return names, next, nil
}
