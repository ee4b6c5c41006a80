package sql

import (
	"context"
	"sync"
	"time"
)

// doubts are leases that were asked for and whose answer did not come. A
// goroutine gives them back while there are any.
type doubts struct {
	mu      sync.Mutex
	all     []*doubtful
	running bool
	closed  bool
}

// doubtful is one such lease. A statement that was sent may be carried out after
// its release, so that one which finds nothing is repeated, less and less often,
// until the lease would have run out, counted from when the server last did not
// answer.
type doubtful struct {
	*lease
	ttl         time.Duration
	until, next time.Time
	pause       time.Duration
}

const (
	// maxDoubts bounds what an outage collects. A lease that is not remembered
	// runs out by itself.
	maxDoubts     = 4096
	doubtPause    = 100 * time.Millisecond
	releaseTime   = time.Second
	releaseFailed = 100 * time.Millisecond
)

// doubt remembers a lease that perhaps was granted.
func (p *Provider) doubt(l *lease, ttl time.Duration) {
	now := time.Now()
	d := &p.doubts
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || len(d.all) >= maxDoubts {
		return
	}
	d.all = append(d.all, &doubtful{lease: l, ttl: ttl, until: now.Add(ttl), next: now, pause: doubtPause})
	if !d.running {
		d.running = true
		p.work.Go(func() { p.resolve(p.life) })
	}
}

// close lets nothing more in.
func (d *doubts) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}

// due returns the lease that is to be tried next, and how long to wait for it. It
// forgets those that have run out. If none is left, the goroutine must end.
func (d *doubts) due(now time.Time) (one *doubtful, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := d.all[:0]
	for _, l := range d.all {
		if !now.Before(l.until) {
			continue
		}
		kept = append(kept, l)
		if one == nil || l.next.Before(one.next) {
			one = l
		}
	}
	clear(d.all[len(kept):])
	d.all = kept
	if d.running = one != nil; d.running {
		wait = one.next.Sub(now)
	}
	return one, wait
}

// resolve gives back what is in doubt, until nothing is.
func (p *Provider) resolve(ctx context.Context) {
	for {
		one, wait := p.doubts.due(time.Now())
		if one == nil || !sleep(ctx, wait) {
			return
		}
		if !p.giveBack(ctx, one) && !sleep(ctx, releaseFailed) {
			return
		}
	}
}

// giveBack tries to release one lease, and tells whether the server answered. If
// it did not, all are prolonged: a statement that it has not read yet is carried
// out when it wakes up, and the lease then lasts for as long as was asked.
func (p *Provider) giveBack(ctx context.Context, one *doubtful) bool {
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	found, err := p.db.release(ctx, one.name, one.holder)
	now := time.Now()
	d := &p.doubts
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil:
		for _, l := range d.all {
			l.until = now.Add(l.ttl)
		}
		one.next = now
	case found:
		one.until = time.Time{} // due forgets it
	default:
		one.next = now.Add(one.pause)
		one.pause *= 2
	}
	return err == nil
}

// sleep waits, and tells whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
