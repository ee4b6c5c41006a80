package memory

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Load returns the record stored under name. See [tokencache.Provider].
func (p *Provider) Load(ctx context.Context, name tokencache.Name) (tokencache.Record, error) {
	if err := p.ready(ctx); err != nil {
		return tokencache.Record{}, err
	}
	now := time.Now()
	s := p.stripes.of(name.Owner)
	// The mark must not change between the two reads: a mark that is newer than
	// the record would let its reader overwrite what came after.
	s.gate.RLock()
	mark := s.mark(name.Owner, now)
	e, ok := p.records.GetIfPresent(name)
	s.gate.RUnlock()
	if !ok || e.expired(now) {
		return tokencache.Record{Mark: mark}, tokencache.ErrNotFound
	}
	r := e.record()
	r.Mark = mark
	return r, nil
}

// Save stores the record under name if the condition holds. See
// [tokencache.Provider]. Saves of one name happen one after another, those of
// different names side by side. The largest content is
// [tokencache.MaxSealedSize].
func (p *Provider) Save(ctx context.Context, name tokencache.Name, record tokencache.Record, cond tokencache.Condition) error {
	if err := p.ready(ctx); err != nil {
		return err
	}
	if len(record.Sealed) > tokencache.MaxSealedSize {
		return tokencache.ErrTooLarge
	}
	if record.Removed() && p.tombstones.Load() >= p.maxTombstones && p.full() {
		return errFull
	}
	replaced, err := p.save(name, record, cond)
	if err != nil {
		return err
	}
	p.subscribers.tell(tokencache.Change{Name: name, Version: record.Version, Replaced: replaced})
	return nil
}

// full tells whether there are too many tombstones, even without those that
// have expired and wait for otter to notice.
func (p *Provider) full() bool {
	p.records.CleanUp()
	return p.tombstones.Load() >= p.maxTombstones
}

// save stores the record, and returns the version that it has replaced.
func (p *Provider) save(
	name tokencache.Name, record tokencache.Record, cond tokencache.Condition,
) (replaced tokencache.Version, err error) {
	s := p.stripes.of(name.Owner)
	s.gate.RLock()
	defer s.gate.RUnlock()
	if !record.Removed() {
		mark := s.mark(name.Owner, time.Now())
		if mark != (tokencache.Version{}) && mark != record.Mark {
			return replaced, tokencache.ErrRemoved
		}
	}
	next := newEntry(name, record) // copies, before any lock that others wait for
	err = p.change(s, name, func(old *entry) (*entry, error) {
		if !holds(cond, old) {
			return nil, tokencache.ErrConflict
		}
		if old != nil {
			replaced = old.version
		}
		return next, nil
	})
	return replaced, err
}

// holds tells whether the condition holds over old, which is nil if nothing is
// stored.
func holds(cond tokencache.Condition, old *entry) bool {
	if cond.Unconditional() {
		return true
	}
	if v, ok := cond.Version(); ok {
		return old != nil && old.version == v
	}
	return old == nil
}

// Touch sets the expiry of the record under name. See [tokencache.Toucher]. It
// copies no content, and it is not a change that Watch tells of.
func (p *Provider) Touch(ctx context.Context, name tokencache.Name, v tokencache.Version, expires time.Time) error {
	if err := p.ready(ctx); err != nil {
		return err
	}
	return p.change(p.stripes.of(name.Owner), name, func(old *entry) (*entry, error) {
		switch {
		case old == nil:
			return nil, tokencache.ErrNotFound
		case old.version != v:
			return nil, tokencache.ErrConflict
		default:
			return old.until(expires), nil
		}
	})
}

// change replaces what is stored under name by what decide makes of it, or
// leaves it if decide fails. decide gets nil if nothing is stored. All of it
// happens under otter's lock on the name, the index included; see Provider for
// the order of locks.
func (p *Provider) change(s *stripe, name tokencache.Name, decide func(old *entry) (*entry, error)) error {
	var err error
	p.records.Compute(name, func(old *entry, found bool) (*entry, otter.ComputeOp) {
		now := time.Now()
		current := old
		if !found || old.expired(now) {
			current = nil
		}
		var next *entry
		if next, err = decide(current); err != nil {
			return old, otter.CancelOp
		}
		if next.expired(now) {
			return old, otter.InvalidateOp // it is gone already
		}
		// old may be here although it has expired, if otter's clock is behind.
		s.replace(old, next)
		if next.removed() {
			p.tombstones.Add(1)
		}
		return next, otter.WriteOp
	})
	return err
}

// deleted is told by otter of every entry that leaves, whatever the cause,
// under the lock on its name. It takes the index lock only; see Provider.
func (p *Provider) deleted(e otter.DeletionEvent[tokencache.Name, *entry]) {
	if e.Value.removed() {
		p.tombstones.Add(-1)
	}
	if e.Cause == otter.CauseExpiration {
		p.expired.Add(1)
	}
	if e.Cause != otter.CauseReplacement { // change has seen to that
		p.stripes.of(e.Key.Owner).drop(e.Value)
	}
}
