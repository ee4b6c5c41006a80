package background

import (
	"context"
	"sync"
	"time"
)

// Doubts are leases that were asked for and whose answer did not come. A goroutine
// gives them back while there are any, one after the other. Doubts are safe for
// concurrent use.
type Doubts struct {
	work  *Work
	added chan struct{} // wakes the goroutine up

	mu      sync.Mutex
	all     []*doubt
	running bool
}

// doubt is one such lease. A request that was sent may be carried out after its
// release, so that one which finds nothing is repeated, less and less often, until
// the lease would have run out, counted from when the server last did not answer.
type doubt struct {
	release     Release
	ttl         time.Duration
	until, next time.Time
	pause       time.Duration
}

// Release gives a lease back, and tells whether it was still there. An error means
// that the server did not answer. The context ends after a second at the latest.
type Release func(ctx context.Context) (found bool, err error)

const (
	// maxDoubts bounds what an outage collects. A lease that is not remembered
	// runs out by itself.
	maxDoubts     = 4096
	doubtPause    = 100 * time.Millisecond // after the first release that finds nothing
	releaseTime   = time.Second
	releaseFailed = 100 * time.Millisecond // how long there is none after one without an answer
)

// NewDoubts returns those that are given back as part of the work, and end with it.
func NewDoubts(w *Work) *Doubts { return &Doubts{work: w, added: make(chan struct{}, 1)} }

// Add remembers a lease that perhaps was granted for ttl, and is not wanted. When
// the work is closed it forgets it, as it does what is too much to remember.
func (d *Doubts) Add(release Release, ttl time.Duration) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.work.Life.Err() != nil || len(d.all) >= maxDoubts {
		return
	}
	if !d.running && !d.work.Go(d.resolve) {
		return
	}
	d.running = true
	d.all = append(d.all, &doubt{release: release, ttl: ttl, until: now.Add(ttl), next: now, pause: doubtPause})
	select {
	case d.added <- struct{}{}:
	default:
	}
}

// resolve gives back what is in doubt, until nothing is. Where one has failed it
// goes on with the next, which may be at another server.
func (d *Doubts) resolve(ctx context.Context) {
	for {
		try, wait := d.due(time.Now())
		for _, one := range try {
			if !d.giveBack(ctx, one) && !Sleep(ctx, releaseFailed) {
				return
			}
		}
		switch {
		case wait < 0, ctx.Err() != nil:
			return
		case len(try) == 0:
			d.await(ctx, wait)
		}
	}
}

// await waits, or until there is another lease, which is due at once.
func (d *Doubts) await(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-d.added:
	case <-ctx.Done():
	}
}

// due returns the leases that are to be tried now, and if there are none, how long
// to wait for the next. It forgets those that have run out. If none is left, there
// is nothing to wait for: that is negative, and the goroutine must end.
func (d *Doubts) due(now time.Time) (try []*doubt, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := d.all[:0]
	wait = -1
	for _, one := range d.all {
		if !now.Before(one.until) {
			continue
		}
		kept = append(kept, one)
		left := max(0, one.next.Sub(now))
		if left == 0 {
			try = append(try, one)
		}
		if wait < 0 || left < wait {
			wait = left
		}
	}
	clear(d.all[len(kept):])
	d.all = kept
	d.running = len(kept) > 0
	return try, wait
}

// giveBack tries to release one lease, and tells whether the server answered. If
// it did not, all are prolonged: a request that it has not read yet is carried out
// when it wakes up, and the lease then lasts for as long as was asked.
func (d *Doubts) giveBack(ctx context.Context, one *doubt) bool {
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	found, err := one.release(ctx)
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil:
		for _, l := range d.all {
			if !l.until.IsZero() {
				l.until = now.Add(l.ttl)
			}
		}
	case found:
		one.until = time.Time{} // due forgets it
	default:
		one.next = now.Add(one.pause)
		one.pause *= 2
	}
	return err == nil
}
