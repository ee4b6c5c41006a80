package tokencache

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Keeping a partition alive happens behind the request that has loaded it, when a
// tenth of its idle time has passed, and seldom enough to cost nothing. Should
// it fail, the next load tries again.

// upkeepAtOnce bounds what is kept alive at the same moment; the rest waits for
// another load.
const upkeepAtOnce = 8

// idleEnd is when a partition vanishes if nobody uses it, and never after its
// absolute end. Partitions that began together do not end together.
func (p *Partition) idleEnd(s *snapshot, now time.Time) time.Time {
	idle := p.cache.opts.IdleTimeout
	end := now.Add(idle + rand.N(idle/20+1)) // #nosec G404 -- jitter, not a secret
	if !s.end.IsZero() && s.end.Before(end) {
		return s.end
	}
	return end
}

// upkeep extends the life of a partition that was loaded, and seals it with the
// first key of the ring.
func (p *Partition) upkeep(ctx context.Context, st *state) {
	touch := p.idles(st)
	if st.snap == nil || !touch && !st.old || !p.cache.upkeeping.TryAcquire(1) {
		return
	}
	if p.cache.begin() != nil {
		p.cache.upkeeping.Release(1)
		return
	}
	go func() {
		defer p.cache.work.Done()
		defer p.cache.upkeeping.Release(1)
		ctx := context.WithoutCancel(ctx)
		if st.old || p.cache.store.caps.Toucher == nil {
			p.reseal(ctx, st)
			return
		}
		p.touch(ctx, st)
	}()
}

// idles tells whether the partition would end for not being used, and it is time
// to move its end.
func (p *Partition) idles(st *state) bool {
	if st.snap == nil || p.key.selfRenewing() || st.expires.IsZero() {
		return false
	}
	idle := p.cache.opts.IdleTimeout
	if !st.snap.end.IsZero() && !st.expires.Before(st.snap.end.Add(-idle/20)) {
		return false // there is nothing to win
	}
	return time.Until(st.expires) < idle-idle/10
}

func (p *Partition) touch(ctx context.Context, st *state) {
	began := time.Now()
	err := guarded(func() error {
		return p.cache.store.calls.do(ctx, "touch", func(ctx context.Context) error {
			return p.cache.store.caps.Toucher.Touch(ctx, st.name, st.version, p.idleEnd(st.snap, time.Now()))
		})
	})
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
		return // somebody else was here
	}
	p.tell(ctx, Event{Kind: EventUpkeep, Detail: detailTouched, Duration: time.Since(began), Err: err})
}

// errElsewhere ends a save that somebody else has made needless.
var errElsewhere = errors.New("tokencache: saved by somebody else")

// reseal saves what is stored as it is.
func (p *Partition) reseal(ctx context.Context, st *state) {
	began := time.Now()
	err := guarded(func() error {
		_, err := p.commit(ctx, flightSaveTimeout, nil, st, func(now *state) (meta, *document, error) {
			if now != st {
				return meta{}, nil, errElsewhere
			}
			return contentOf(st.snap)
		})
		return err
	})
	if errors.Is(err, errElsewhere) {
		return
	}
	p.tell(ctx, Event{Kind: EventUpkeep, Detail: detailResealed, Duration: time.Since(began), Err: err})
}
