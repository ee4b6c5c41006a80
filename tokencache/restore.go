package tokencache

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// restoreAttempts bounds how often a load is judged: others may write
	// meanwhile.
	restoreAttempts = 5
	// restoreAtOnce bounds what is looked for at the same moment.
	restoreAtOnce = 4
	// restoreRetry is the pause after the store did not answer who looked.
	restoreRetry = 500 * time.Millisecond
)

var (
	// errBehind says that the store goes on answering with what was replaced.
	errBehind = errors.New("it answers with what has been replaced")
	// errAwaited says that another machine has to restore what it wrote.
	errAwaited = errors.New("it answers with what another machine has replaced, as after a failover that lost writes; " +
		"that machine is waited for")
)

// loadRecord loads the partition's record, and tells of it. Should the store have
// gone back to what this process has replaced, as after a failover that has lost
// acknowledged writes, what it has lost is stored again first: the refresh token of
// the older record has been spent, or its user has signed out. What another machine
// has replaced, that one has to restore. With an error, nothing of the older record
// is used.
//
// Where nothing is stored, that goes for partitions that are new; see
// [journal.newer].
func (p *Partition) loadRecord(ctx context.Context, name Name) (*state, error) {
	for range restoreAttempts {
		began := time.Now()
		st, err := p.loadStored(ctx, name)
		newer := p.cache.journal.newer(st, &p.cache.hearsay)
		switch at, replaced := p.replacedAt(st, newer); {
		case !replaced:
			return st, err
		case at.After(began): // while it was on its way
			continue
		case newer == nil:
			return nil, unavailable("load", errAwaited)
		}
		if err := p.restore(ctx, st, newer); err != nil {
			return nil, err
		}
	}
	return nil, unavailable("load", errBehind)
}

// replacedAt tells whether the state has been replaced, by the save of this process
// or by that of another one, and when.
func (p *Partition) replacedAt(st *state, by *saved) (at time.Time, ok bool) {
	switch {
	case by != nil:
		return by.at, true
	case st == nil || !st.found && p.key.selfRenewing(): // it ends early, and another one is obtained
		return time.Time{}, false
	}
	at, ok = p.cache.hearsay.replaced(st.was())
	if lives := min(p.cache.opts.IdleTimeout, p.cache.opts.AbsoluteTimeout); ok && !st.found && time.Since(at) >= lives {
		return time.Time{}, false // it has expired
	}
	return at, ok
}

// restore stores again what has replaced the state: the same record under the
// same version, so that others who remember it know it, if the store goes back
// once more or has a still newer one to get from them. If anything else has
// come in place of the state, that is left alone.
//
// The owner's mark may have gone back too. A record that the mark of now refuses
// cannot come back; a tombstone comes in its place, as everything of the owner has
// been removed since the older one was written. Its time is that of the removal,
// where that is known: a sign-in that began later may be under way.
func (p *Partition) restore(ctx context.Context, st *state, newer *saved) error {
	began, r := time.Now(), newer.record
	err := p.cache.store.restore(ctx, st.name, r, st.condition())
	if errors.Is(err, ErrRemoved) {
		removed := removalTime(r.Mark)
		if removed.IsZero() {
			removed = began
		}
		r = Record{Version: newRemoval(removed), Mark: st.mark, Expires: began.Add(tombstoneLife)}
		err = p.cache.store.restore(ctx, st.name, r, st.condition())
	}
	switch {
	case errors.Is(err, ErrConflict):
		return nil
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	}
	if !errors.Is(err, errNotAsked) {
		e := Event{Kind: EventRestore, Duration: time.Since(began), Err: err}
		if r.Removed() {
			e.Detail = detailRemoved
		}
		p.tell(ctx, e)
	}
	return unavailable("save", err)
}

// restoreLater looks behind everybody's back for what a failover may have lost,
// so that other machines do not find it either. It ends with ctx, which Close ends.
func (c *Cache) restoreLater(ctx context.Context) {
	if c.begin() != nil {
		return
	}
	if !c.journal.missed(c.settling.begin) {
		c.work.Done()
		return
	}
	go func() {
		defer c.work.Done()
		for ctx.Err() == nil {
			list, round := c.journal.unseen()
			if len(list) == 0 {
				c.settling.end(round)
				return
			}
			all := c.restoreEach(ctx, list, round)
			c.settling.end(round)
			if !all {
				sleep(ctx, restoreRetry)
			}
		}
	}()
}

// restoreEach loads what is listed, which restores it, and tells whether all of it
// is there. What another machine has to restore holds up none of the rest, as that
// machine may be waiting for some of it; nor does a call without an answer, as a
// store that has just failed over is busy. It ends early if several calls in a row
// have none.
func (c *Cache) restoreEach(ctx context.Context, list []*saved, round uint64) bool {
	var group errgroup.Group
	group.SetLimit(restoreAtOnce)
	var left atomic.Bool
	var failures atomic.Int64 // in a row
	for _, s := range list {
		if ctx.Err() != nil || failures.Load() >= breakerFailures {
			left.Store(true)
			break
		}
		group.Go(func() error {
			p := &Partition{cache: c, key: s.key}
			p.memo.Store(&memo{name: s.name})
			err := guarded(func() error {
				_, err := p.loadRecord(ctx, s.name)
				return err
			})
			switch {
			case err == nil:
				failures.Store(0)
				c.journal.seen(s, round)
				return nil
			case !errors.Is(err, errAwaited) && !errors.Is(err, errBehind):
				failures.Add(1)
			}
			left.Store(true)
			return nil
		})
	}
	_ = group.Wait() // which fails for nobody
	return !left.Load()
}
