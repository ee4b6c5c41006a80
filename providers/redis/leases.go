package redis

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// lease is a key that holds its holder's random value, and expires.
type lease struct {
	p      *Provider
	key    string
	holder string
}

// Acquire takes the lease, without waiting. See [tokencache.Leaser]. It is asked
// for once. If the server does not answer, it may have granted the lease all the
// same; it is then given back in the background, or everyone else would wait until
// it runs out.
func (p *Provider) Acquire(ctx context.Context, n tokencache.Name, ttl time.Duration) (tokencache.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := &lease{p: p, key: p.keysOf(n).lease, holder: rand.Text()}
	answer, err := p.runOnce(ctx, acquireScript, []string{l.key}, l.holder, milliseconds(ttl))
	switch {
	case err != nil:
		if !notDone(err) {
			p.doubts.Add(l.release, ttl)
		}
		return nil, err
	case answer == 0:
		return nil, tokencache.ErrBusy
	}
	return l, nil
}

// Renew extends the lease. See [tokencache.Lease].
func (l *lease) Renew(ctx context.Context, ttl time.Duration) error {
	answer, err := l.p.run(ctx, renewScript, []string{l.key}, l.holder, milliseconds(ttl))
	if err == nil && answer == 0 {
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
	answer, err := l.p.run(ctx, releaseScript, []string{l.key}, l.holder)
	return answer == 1, err
}
