package tokencache

import (
	"context"
	"errors"
	"time"
)

// changeFunc produces what is to be stored from what is stored now. It is called
// again after each conflict, so that this writer's own changes are applied to
// what the other writer left. Its error ends the save.
type changeFunc func(*state) (meta, *document, error)

// errMoved says that a save found another state than it expected.
type errMoved struct{ now *state }

func (*errMoved) Error() string { return "tokencache: the partition changed" }

// commit saves what next makes of the state, on a context that outlives the
// request, for at most the patience given. It returns the new state; its error is
// next's, ErrTooLarge, a hook's, ErrUnavailable or ErrConflict when there was no
// end of them.
func (p *Partition) commit(
	ctx context.Context, patience time.Duration, a *Access, st *state, next changeFunc,
) (*state, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for attempt := range saveAttempts {
		saved, err := p.commitOnce(ctx, a, st, next)
		var moved *errMoved
		if !errors.As(err, &moved) {
			if err == nil && attempt > 0 {
				p.tell(ctx, Event{Kind: EventMerge})
			}
			return saved, ownDeadline(err)
		}
		st = moved.now
		sleep(ctx, 5*time.Millisecond) // whoever won may be about to write again
	}
	return nil, ErrConflict
}

func (p *Partition) commitOnce(ctx context.Context, a *Access, st *state, next changeFunc) (*state, error) {
	now := time.Now()
	m, doc, err := next(st)
	if err != nil {
		return nil, err
	}
	m.mark = st.mark
	plain, err := encodePlain(m, doc, now)
	if err != nil {
		return nil, err
	}
	snap, err := parsePlain(plain)
	if err != nil {
		return nil, err
	}
	expires := p.expiry(snap, now)
	if err := p.cache.hooks.writing(ctx, a, snap, expires); err != nil {
		return nil, err
	}
	rec := Record{Version: NewVersion(), Mark: st.mark, Expires: expires}
	err = patiently(ctx, func() error {
		rec.Sealed, err = p.cache.store.sealer.seal(st.name, rec.Version, plain)
		return err
	})
	if err != nil {
		return nil, unavailable("seal", err) // whatever it is, it says nothing about the user
	}
	saved := &state{name: st.name, found: true, version: rec.Version, mark: rec.Mark, snap: snap}
	if err := p.put(ctx, st, rec, saved); err != nil {
		return nil, err
	}
	a.done()
	return saved, nil
}

// put writes the record over the state st, and keeps saved in L1.
func (p *Partition) put(ctx context.Context, st *state, rec Record, saved *state) error {
	c := p.cache
	began, epoch := time.Now(), c.l1.epoch(st.name)
	over := c.l1.own(rec.Version)
	defer over()
	err := patiently(ctx, func() error { return p.swap(ctx, st, rec) })
	if err != nil {
		c.l1.drop(st.name)
		return err
	}
	if epoch, ok := c.l1.replace(p.key.id, saved, epoch); ok {
		p.remember(loaded{state: saved, epoch: epoch})
	}
	p.tell(ctx, Event{Kind: EventSave, Duration: time.Since(began)})
	return nil
}

// swap saves the record over the state st, and no other: the error is errMoved
// if another is stored. It can be repeated after an error of the backend, as the
// record has its version already: if that is stored, it was applied, and only
// the reply was lost.
func (p *Partition) swap(ctx context.Context, st *state, r Record) error {
	began := time.Now()
	err := p.cache.store.save(ctx, st.name, r, st.condition())
	if err != nil && !errors.Is(err, errNotAsked) {
		p.tell(ctx, Event{Kind: EventSave, Duration: time.Since(began), Err: err})
	}
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrRemoved) {
		var now *state
		now, err = p.loadRecord(ctx, st.name)
		if err == nil && (!now.found || now.version != r.Version) {
			p.tell(ctx, Event{Kind: EventConflict})
			return &errMoved{now: now}
		}
	}
	if err == nil && !p.cache.hooks.persist { // whose versions do repeat
		p.cache.journal.add(p.key, st, r)
	}
	return err
}

// expiry is when the partition vanishes if it is not saved again.
func (p *Partition) expiry(s *snapshot, now time.Time) time.Time {
	switch p.key.id.kind {
	case kindApplication:
		if last := s.lastExpiry(); !last.IsZero() {
			return last
		}
		return now // nothing is left to keep
	case kindAssertion:
		return p.key.ends()
	}
	return p.idleEnd(s, now)
}

// freshMeta is that of a partition that begins now.
func (p *Partition) freshMeta(now time.Time) meta {
	m := meta{generation: newGeneration()}
	if !p.key.selfRenewing() {
		m.end = now.Add(p.cache.opts.AbsoluteTimeout)
	}
	return m
}
