package providertest

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func leaseTests() []testCase {
	return []testCase{
		{"Exclusive", testLeaseExclusive},
		{"Names", testLeaseNames},
		{"Release", testLeaseRelease},
		{"RunsOut", testLeaseRunsOut},
		{"Renew", testLeaseRenew},
		{"RenewLost", testLeaseRenewLost},
		{"ReleaseLost", testLeaseReleaseLost},
		{"Advice", testLeaseAdvice},
		{"Race", testLeaseRace},
		{"Killed", testLeaseKilled},
		{"Contention", testLeaseContention},
	}
}

const longLease = time.Hour

func (e *env) acquire(rule string, p tokencache.Provider, n tokencache.Name, ttl time.Duration) tokencache.Lease {
	e.Helper()
	lease, err := p.Capabilities().Leaser.Acquire(e.ctx, n, ttl)
	e.want(rule, err, nil, "Acquire of a lease that nobody holds")
	if lease == nil {
		e.broken(rule, "Acquire returned neither a lease nor an error")
	}
	return lease
}

// wantBusy reports if anyone can take the lease.
func (e *env) wantBusy(rule string, n tokencache.Name) {
	e.Helper()
	for _, p := range []tokencache.Provider{e.p, e.peer} {
		_, err := p.Capabilities().Leaser.Acquire(e.ctx, n, longLease)
		e.want(rule, err, tokencache.ErrBusy, "Acquire of a lease that is held")
	}
}

// testLeaseExclusive: the holder itself is another, too; a lease is not
// re-entrant.
func testLeaseExclusive(e *env) {
	n := newName()
	e.acquire(ruleAcquire, e.p, n, longLease)
	start := time.Now()
	e.wantBusy(ruleBusy, n)
	if waited := time.Since(start); waited > longLease/2 {
		e.broken(ruleAcquire, "Acquire of a lease that is held waited %v", waited)
	}
}

func testLeaseNames(e *env) {
	n := newName()
	e.acquire(ruleAcquire, e.p, n, longLease)
	e.acquire(ruleAcquire, e.peer, tokencache.Name{Owner: n.Owner, Partition: newHash()}, longLease)
	e.acquire(ruleAcquire, e.peer, newName(), longLease)
}

func testLeaseRelease(e *env) {
	n := newName()
	first := e.acquire(ruleAcquire, e.p, n, longLease)
	e.want(ruleRelease, first.Release(e.ctx), nil, "Release")
	second := e.acquire(ruleRelease, e.peer, n, longLease)
	e.wantBusy(ruleBusy, n)
	// What was given back is lost, to whoever has it now.
	e.want(ruleReleaseAfter, first.Release(e.ctx), nil, "Release for the second time")
	e.wantBusy(ruleReleaseAfter, n)
	e.want(ruleRenewLost, first.Renew(e.ctx, longLease), tokencache.ErrConflict, "Renew after Release")
	e.want(ruleRenew, second.Renew(e.ctx, longLease), nil, "Renew by the holder")
}

func testLeaseRunsOut(e *env) {
	n := newName()
	e.acquire(ruleAcquire, e.p, n, e.expiry)
	e.outlast()
	e.acquire(ruleRunOut, e.peer, n, longLease)
	e.wantBusy(ruleBusy, n)
}

// testLeaseRenew prolongs one lease and shortens another.
func testLeaseRenew(e *env) {
	n, m := newName(), newName()
	prolonged := e.acquire(ruleAcquire, e.p, n, 10*e.expiry)
	e.want(ruleRenew, prolonged.Renew(e.ctx, longLease), nil, "Renew")
	shortened := e.acquire(ruleAcquire, e.p, m, longLease)
	e.want(ruleRenew, shortened.Renew(e.ctx, e.expiry), nil, "Renew")
	for range 8 {
		e.outlast()
	}
	e.wantBusy(ruleRenew, n)
	e.acquire(ruleRenew, e.peer, m, longLease)
}

func testLeaseRenewLost(e *env) {
	n, m := newName(), newName()
	free := e.acquire(ruleAcquire, e.p, n, e.expiry)
	taken := e.acquire(ruleAcquire, e.p, m, e.expiry)
	e.outlast()
	holder := e.acquire(ruleRunOut, e.peer, m, longLease)
	e.want(ruleRenewLost, free.Renew(e.ctx, longLease), tokencache.ErrConflict, "Renew of a lease that ran out")
	e.want(ruleRenewLost, taken.Renew(e.ctx, longLease), tokencache.ErrConflict, "Renew of a lease that another holds")
	// Neither attempt took anything.
	e.acquire(ruleRenewLost, e.peer, n, longLease)
	e.want(ruleRenew, holder.Renew(e.ctx, longLease), nil, "Renew by the new holder")
}

func testLeaseReleaseLost(e *env) {
	n, m := newName(), newName()
	free := e.acquire(ruleAcquire, e.p, n, e.expiry)
	taken := e.acquire(ruleAcquire, e.p, m, e.expiry)
	e.outlast()
	holder := e.acquire(ruleRunOut, e.peer, m, longLease)
	e.want(ruleReleaseAfter, free.Release(e.ctx), nil, "Release of a lease that ran out")
	e.want(ruleReleaseAfter, taken.Release(e.ctx), nil, "Release of a lease that another holds")
	e.wantBusy(ruleReleaseAfter, m)
	e.want(ruleReleaseAfter, holder.Renew(e.ctx, longLease), nil, "Renew by the new holder")
}

// testLeaseAdvice: a lease needs no record, is none, and stops no save.
func testLeaseAdvice(e *env) {
	n, r := newName(), record("there")
	e.acquire(ruleLeaseAdvice, e.p, n, longLease)
	e.wantAbsent(ruleLeaseAdvice, e.peer, n)
	e.save(e.peer, n, r, tokencache.Condition{})
	e.wantStored(ruleLeaseAdvice, e.p, n, r)
	e.save(e.peer, n, tombstone(), tokencache.IfVersion(r.Version))
	e.wantBusy(ruleBusy, n)
}

// testLeaseRace: at most one holds it at any moment, and one gets it.
func testLeaseRace(e *env) {
	n := newName()
	var holders, wins atomic.Int32
	e.together(16, func(_ int, p tokencache.Provider) {
		for range 20 {
			lease, err := p.Capabilities().Leaser.Acquire(e.ctx, n, longLease)
			if errors.Is(err, tokencache.ErrBusy) {
				continue
			}
			if err != nil {
				e.breach(ruleBusy, "Acquire beside others: error %v", err)
				return
			}
			wins.Add(1)
			if now := holders.Add(1); now > 1 {
				e.breach(ruleBusy, "%d hold one lease", now)
			}
			_, _ = p.Load(e.ctx, n) // hold it for as long as a round trip
			breathe()
			holders.Add(-1)
			if err := lease.Release(e.ctx); err != nil {
				e.breach(ruleRelease, "Release: error %v", err)
			}
		}
	})
	if wins.Load() == 0 {
		e.broken(ruleAcquire, "nobody got a lease that nobody held")
	}
	e.acquire(ruleRelease, e.p, n, longLease)
}
