package providertest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// testLeaseKilled: the holder dies without a word, even its context ends. The
// lease stays taken until it runs out, and then exactly one of those who wait
// gets it. The holder that turns out to be alive notices.
func testLeaseKilled(e *env) {
	n := newName()
	dying, kill := context.WithCancel(e.ctx)
	dead, err := e.caps.Leaser.Acquire(dying, n, 10*e.expiry)
	e.want(ruleAcquire, err, nil, "Acquire of a lease that nobody holds")
	renewed := time.Now()
	e.want(ruleRenew, dead.Renew(dying, 2*e.expiry), nil, "Renew")
	kill()

	var taken atomic.Int32
	e.together(8, func(_ int, p tokencache.Provider) {
		for taken.Load() == 0 {
			_, err := p.Capabilities().Leaser.Acquire(e.ctx, n, longLease)
			held := time.Since(renewed)
			switch {
			case err == nil:
				taken.Add(1)
				if held < 2*e.expiry-e.slack() {
					e.breach(ruleBusy, "a lease of %v was given to another after %v", 2*e.expiry, held)
				}
			case !errors.Is(err, tokencache.ErrBusy):
				e.breach(ruleBusy, "Acquire of a lease that is held: error %v", err)
				return
			case held > 2*e.expiry+patience:
				e.breach(ruleRunOut, "a lease of %v is still held after %v", 2*e.expiry, held)
				return
			}
			time.Sleep(e.expiry / 10)
		}
	})
	if taken.Load() > 1 {
		e.broken(ruleBusy, "%d took one lease that had run out", taken.Load())
	}
	e.want(ruleRenewLost, dead.Renew(e.ctx, longLease), tokencache.ErrConflict, "Renew of a lease that another holds")
	e.want(ruleReleaseAfter, dead.Release(e.ctx), nil, "Release of a lease that another holds")
	e.wantBusy(ruleReleaseAfter, n)
}

// slack is what a backend's clock and its rounding may take off a life.
func (e *env) slack() time.Duration { return e.expiry / 4 }

// hold is a time during which a caller held the lease for certain: from when it
// was told so, to when it asked to end that, or to what it was promised when it
// asked.
type hold struct{ from, to time.Time }

// testLeaseContention has many want one lease, and leave it in every way in
// turn: renewed and then left to run out, left to run out, or released. No two
// may have held it at once.
func testLeaseContention(e *env) {
	n := newName()
	var turn atomic.Int32
	var mu sync.Mutex
	var holds []hold
	end := time.Now().Add(4 * e.expiry)
	e.together(50, func(_ int, p tokencache.Provider) {
		for time.Now().Before(end) {
			asked := time.Now()
			lease, err := p.Capabilities().Leaser.Acquire(e.ctx, n, e.expiry)
			h := hold{time.Now(), asked.Add(e.expiry)}
			if errors.Is(err, tokencache.ErrBusy) {
				time.Sleep(e.expiry / 20)
				continue
			}
			if err != nil {
				e.breach(ruleBusy, "Acquire beside others: error %v", err)
				return
			}
			h.to = e.leave(turn.Add(1), lease, h.to)
			mu.Lock()
			holds = append(holds, h)
			mu.Unlock()
			return
		}
	})
	if len(holds) == 0 {
		e.broken(ruleAcquire, "nobody got a lease that nobody held")
	}
	for i, a := range holds {
		for _, b := range holds[:i] {
			from, to := a.from, a.to
			if b.from.After(from) {
				from = b.from
			}
			if b.to.Before(to) {
				to = b.to
			}
			if both := to.Sub(from); both > e.slack() {
				e.broken(ruleBusy, "two held one lease at once, for %v", both)
			}
		}
	}
}

// leave ends a hold in one of three ways, and returns when it ends.
func (e *env) leave(turn int32, lease tokencache.Lease, promised time.Time) time.Time {
	now := time.Now()
	switch turn % 3 {
	case 0:
		if err := lease.Release(e.ctx); err != nil {
			e.breach(ruleRelease, "Release: error %v", err)
		}
		return now
	case 1:
		err := lease.Renew(e.ctx, e.expiry*3/2)
		if err == nil {
			return now.Add(e.expiry * 3 / 2)
		}
		// On a slow machine it may have run out by now.
		if !errors.Is(err, tokencache.ErrConflict) || time.Now().Before(promised.Add(-e.slack())) {
			e.breach(ruleRenew, "Renew by the holder: error %v", err)
		}
	}
	return promised
}
