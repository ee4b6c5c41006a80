package tokencache

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// store is the provider with its records opened, and every call made through a
// caller: bounded, and its errors sorted.
type store struct {
	provider Provider
	caps     Capabilities
	calls    *caller
	sealer   sealer
}

// state is what is stored under a name: tokens, or the reason there are none.
type state struct {
	name    Name
	found   bool    // something is stored, of this version
	version Version // zero if it is not known
	mark    Version // the owner's removal mark
	snap    *snapshot
	err     error     // why snap is nil: ErrNoTokens, ErrRemoved or ErrUnreadable
	buried  bool      // what is stored is a tombstone
	expires time.Time // when what is stored vanishes, zero: never
	seen    uint64    // l1.missed when L1 got it
	saved   bool      // L1 got it from this cache's own save
	partial bool      // more may be stored: the provider did not answer
	old     bool      // it was sealed with another key than would be used now
	lost    *snapshot // what is stored, and was removed with everything of its owner
}

// snapshot returns the contents, nil if there are none.
func (s *state) snapshot() *snapshot {
	if s == nil {
		return nil
	}
	return s.snap
}

// was is the version that a save over this state replaces, zero if that is not
// known.
func (s *state) was() Version {
	if !s.found {
		return absence(s.name)
	}
	return s.version
}

// condition is that of a save which replaces this state and no other. What was
// too large to be read has no version that is known, and is replaced whatever it
// is by now.
func (s *state) condition() Condition {
	switch {
	case !s.found:
		return Condition{}
	case s.version == Version{}:
		return Always()
	}
	return IfVersion(s.version)
}

// removal returns when the partition or its owner was last removed, zero if no
// trace of a removal is left.
func (s *state) removal() time.Time {
	at := removalTime(s.mark)
	if s.buried {
		if t := removalTime(s.version); t.After(at) {
			return t
		}
	}
	return at
}

// generation is that of what is stored, zero if there is none to be known.
func (s *state) generation() generation {
	if held := cmp.Or(s.snap, s.lost); held != nil {
		return held.generation
	}
	return generation{}
}

// life is how long a copy of the state may be kept: maxAge, and not beyond the
// partition's absolute end.
func (s *state) life(maxAge time.Duration) time.Duration {
	if s.snap == nil || s.snap.end.IsZero() {
		return maxAge
	}
	return min(maxAge, max(time.Until(s.snap.end), 1))
}

// load reads and opens the record under name. The error is ErrUnavailable or
// the context's; a partition without tokens is a state.
func (s *store) load(ctx context.Context, name Name) (*state, error) {
	rec, err := call(ctx, s.calls, "load", func(ctx context.Context) (Record, error) {
		return s.provider.Load(ctx, name)
	})
	st := &state{name: name, mark: rec.Mark}
	switch {
	case errors.Is(err, ErrNotFound):
		st.err = ErrNoTokens
		return st, nil
	case errors.Is(err, ErrTooLarge): // nothing that a Cache has saved
		st.found, st.err = true, &unreadableError{reason: reasonTooLarge}
		return st, nil
	case err != nil:
		return nil, err
	}
	st.found, st.version, st.expires = true, rec.Version, rec.Expires
	if rec.Removed() {
		st.err, st.buried = ErrRemoved, true
		return st, nil
	}
	plain, err := s.sealer.open(name, rec)
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	if err == nil {
		st.old = s.sealer.outdated(rec.Sealed)
		if st.snap, err = parsePlain(plain); err != nil {
			err = &unreadableError{reason: reasonMalformed}
		}
	}
	switch {
	case err != nil:
		st.snap, st.err = nil, err
	case !st.snap.end.IsZero() && !time.Now().Before(st.snap.end):
		st.snap, st.err = nil, ErrNoTokens // the backend kept it for too long
	case st.mark != Version{} && st.mark != st.snap.mark:
		// Everything of the owner was removed since it was saved, and this is
		// about to be. Nobody may spend its refresh token meanwhile.
		st.snap, st.lost, st.err = nil, st.snap, ErrRemoved
	}
	return st, nil
}

// save stores the record. The error is ErrConflict, ErrRemoved, ErrTooLarge,
// ErrUnavailable or the context's; after the last two it may be stored.
func (s *store) save(ctx context.Context, name Name, r Record, c Condition) error {
	op := "save"
	if r.Removed() {
		op = "bury"
	}
	return s.saveAs(ctx, op, name, r, c)
}

// restore is save for what the store has lost.
func (s *store) restore(ctx context.Context, name Name, r Record, c Condition) error {
	return s.saveAs(ctx, "restore", name, r, c)
}

func (s *store) saveAs(ctx context.Context, op string, name Name, r Record, c Condition) error {
	return s.calls.do(ctx, op, func(ctx context.Context) error {
		return s.provider.Save(ctx, name, r, c)
	})
}
