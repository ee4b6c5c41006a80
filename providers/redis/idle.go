package redis

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/background"
)

// idle checks the idle connections of the client's pools. When a firewall or a
// host that went away has made connections silent, the driver finds out with one
// call for each of them; with a pool of a hundred that takes as many calls which
// fail, and a Cache makes few while its provider fails. So the first call without
// an answer has all of them checked at once.
type idle struct {
	mu       sync.Mutex
	checking bool
}

const (
	// idleTimeout is how long a connection has to answer. One that is slower is of
	// no use to a Cache either.
	idleTimeout = 250 * time.Millisecond
	// idleMost bounds the connections of a server that are checked at once.
	idleMost = 512
	// idleRounds bounds the repetitions: a connection that answers may be asked
	// twice, in place of another.
	idleRounds = 5
	// idlePause is how long after a check there is none.
	idlePause = 500 * time.Millisecond
)

// answered is mapped for what a call came back with. One that had no answer in
// time is a reason to check the idle connections, and one that had none at all to
// look who has the slots of a Cluster: its client does so once a minute, or when a
// node tells it, and one that is gone tells nothing.
func (p *Provider) answered(err error) error {
	if isTimeout(err) {
		p.suspect()
	}
	var reply redis.Error
	if c, ok := p.client.(*redis.ClusterClient); ok && err != nil && !errors.As(err, &reply) && !errors.Is(err, context.Canceled) {
		c.ReloadState(p.work.Life) // in the background, at most five times a second
	}
	return mapped(err)
}

// overdue has a call that goes on after its deadline be a reason at the deadline:
// a client that does not look at contexts comes back seconds later. The function
// returned ends that.
func (p *Provider) overdue(ctx context.Context) (stop func() bool) {
	if p.punctual {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			p.suspect()
		}
	})
}

// suspect has the idle connections checked in the background, unless they are.
func (p *Provider) suspect() {
	d := &p.idle
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.checking {
		return
	}
	d.checking = p.work.Go(func(ctx context.Context) {
		p.checkIdle(ctx)
		background.Sleep(ctx, idlePause)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.checking = false
	})
}

// checkIdle asks each server over all idle connections at once, until none of
// them is dead. The driver closes those that do not answer.
func (p *Provider) checkIdle(ctx context.Context) {
	switch c := p.client.(type) {
	case *redis.Client:
		checkPool(ctx, c)
	case *redis.ClusterClient:
		_ = c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			checkPool(ctx, node)
			return nil
		})
	}
}

func checkPool(ctx context.Context, c *redis.Client) {
	c = c.WithTimeout(idleTimeout) // on the same pool
	for range idleRounds {
		var dead atomic.Bool
		var wg sync.WaitGroup
		for range min(c.PoolStats().IdleConns, idleMost) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, 2*idleTimeout)
				defer cancel()
				// Sent again, it would make a connection in place of the dead one.
				if isTimeout(c.Process(ctx, unrepeated{redis.NewCmd(ctx, "ping")})) {
					dead.Store(true)
				}
			})
		}
		wg.Wait()
		if !dead.Load() || ctx.Err() != nil {
			return
		}
	}
}
