package sql

import (
	"context"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// lease is a row that names its holder by a random value, and expires.
type lease struct {
	p      *Provider
	name   tokencache.Name
	holder []byte
}

// Acquire takes the lease, without waiting. See [tokencache.Leaser]. If the
// database does not answer, it may have granted the lease all the same; it is then
// given back in the background, or everyone else would wait until it runs out.
func (p *Provider) Acquire(ctx context.Context, n tokencache.Name, ttl time.Duration) (tokencache.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	holder := tokencache.NewVersion()
	l := &lease{p: p, name: n, holder: holder[:]}
	granted, err := p.db.acquire(ctx, n, l.holder, milliseconds(ttl))
	switch {
	case err != nil:
		if unsure(err) {
			p.doubts.Add(l.release, ttl)
		}
		return nil, err
	case !granted:
		return nil, tokencache.ErrBusy
	}
	return l, nil
}

// Renew extends the lease. See [tokencache.Lease].
func (l *lease) Renew(ctx context.Context, ttl time.Duration) error {
	held, err := l.p.db.renew(ctx, l.name, l.holder, milliseconds(ttl))
	if err == nil && !held {
		return tokencache.ErrConflict
	}
	return err
}

// Release gives the lease back. See [tokencache.Lease].
func (l *lease) Release(ctx context.Context) error {
	_, err := l.release(ctx)
	return err
}

// release tells whether the lease was still there.
func (l *lease) release(ctx context.Context) (found bool, err error) {
	return l.p.db.release(ctx, l.name, l.holder)
}
