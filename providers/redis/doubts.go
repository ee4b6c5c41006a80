package redis

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

// doubtful is one such lease. A request that was sent may arrive after its
// release, so that one which finds nothing is repeated, less and less often,
// until the lease would have run out, counted from when the server last did not
// answer.
type doubtful struct {
	*lease
	ttl   time.Duration
	until time.Time
	next  time.Time
	pause time.Duration
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

// due returns the leases to be tried now and how long to wait for the next ones.
// It forgets those that have run out, and tells whether there are any left; if
// not, the goroutine must end.
func (d *doubts) due(now time.Time) (try []*doubtful, wait time.Duration, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait = time.Second
	kept := d.all[:0]
	for _, one := range d.all {
		if !now.Before(one.until) {
			continue
		}
		kept = append(kept, one)
		if left := one.next.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		try = append(try, one)
	}
	clear(d.all[len(kept):])
	d.all = kept
	d.running = len(kept) > 0
	return try, wait, d.running
}

// resolve gives back what is in doubt, until nothing is.
func (p *Provider) resolve(ctx context.Context) {
	for {
		try, wait, more := p.doubts.due(time.Now())
		if !more {
			return
		}
		for _, one := range try {
			wait = 0
			if p.giveBack(ctx, one) {
				continue
			}
			p.doubts.prolong(time.Now())
			if !sleep(ctx, releaseFailed) { // and on with the next: a Cluster has other servers
				return
			}
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// prolong is called while the server does not answer: a request that it has not
// read yet is granted when it wakes up, and then lasts for as long as was asked.
func (d *doubts) prolong(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range d.all {
		if !one.until.IsZero() {
			one.until = now.Add(one.ttl)
		}
	}
}

// giveBack tries to release one lease, and tells whether the server answered.
func (p *Provider) giveBack(ctx context.Context, one *doubtful) bool {
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	found, err := one.release(ctx)
	if err != nil {
		return false
	}
	p.doubts.mu.Lock()
	defer p.doubts.mu.Unlock()
	if found {
		one.until = time.Time{} // due forgets it
		return true
	}
	one.next = time.Now().Add(one.pause)
	one.pause *= 2
	return true
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
