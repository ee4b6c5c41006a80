package memory

import (
	"context"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// leases are the leases that are held. One lock for all: a lease is taken once
// per refresh, which takes a call to another server.
type leases struct {
	mu   sync.Mutex
	held map[tokencache.Name]*lease
	// pruneAt is the number at which those that ran out are looked for; those
	// that are released leave by themselves.
	pruneAt int
}

// lease is a lease that was acquired; which one holds is told by its address.
type lease struct {
	p       *Provider
	name    tokencache.Name
	expires time.Time // guarded by leases.mu
}

var _ tokencache.Lease = (*lease)(nil)

// Acquire takes the lease on name for ttl. See [tokencache.Leaser].
func (p *Provider) Acquire(ctx context.Context, name tokencache.Name, ttl time.Duration) (tokencache.Lease, error) {
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	ls := &p.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.held[name]; l != nil && now.Before(l.expires) {
		return nil, tokencache.ErrBusy
	}
	if len(ls.held) >= ls.pruneAt {
		ls.pruneLocked(now)
	}
	l := &lease{p: p, name: name, expires: now.Add(ttl)}
	ls.held[name] = l
	return l, nil
}

// Renew extends the lease to ttl from now.
func (l *lease) Renew(ctx context.Context, ttl time.Duration) error {
	if err := l.p.ready(ctx); err != nil {
		return err
	}
	now := time.Now()
	ls := &l.p.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.held[l.name] != l || !now.Before(l.expires) {
		return tokencache.ErrConflict
	}
	l.expires = now.Add(ttl)
	return nil
}

// Release gives the lease back.
func (l *lease) Release(ctx context.Context) error {
	if err := l.p.ready(ctx); err != nil {
		return err
	}
	ls := &l.p.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.held[l.name] == l {
		delete(ls.held, l.name)
	}
	return nil
}

func (ls *leases) prune(now time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.pruneLocked(now)
}

func (ls *leases) pruneLocked(now time.Time) {
	if ls.held == nil {
		ls.held = make(map[tokencache.Name]*lease)
	}
	for name, l := range ls.held {
		if !now.Before(l.expires) {
			delete(ls.held, name)
		}
	}
	ls.pruneAt = 2*len(ls.held) + 64
}
