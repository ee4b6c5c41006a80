package tokencache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// store is the provider with a deadline on every call, its errors sorted, and
// its records opened.
type store struct {
	provider Provider
	caps     Capabilities
	timeout  time.Duration
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
	lost    *snapshot // what is stored, and was removed with everything of its owner
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
	var rec Record
	err := s.call(ctx, "load", func(ctx context.Context) (err error) {
		rec, err = s.provider.Load(ctx, name)
		return err
	})
	st := &state{name: name, mark: rec.Mark}
	switch {
	case errors.Is(err, ErrNotFound):
		st.err = ErrNoTokens
		return st, nil
	case errors.Is(err, ErrTooLarge): // nothing that a Cache has saved
		st.found, st.err = true, ErrUnreadable
		return st, nil
	case err != nil:
		return nil, err
	}
	st.found, st.version = true, rec.Version
	if rec.Removed() {
		st.err, st.buried = ErrRemoved, true
		return st, nil
	}
	plain, err := s.sealer.open(name, rec)
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	if err == nil {
		st.snap, err = parsePlain(plain)
	}
	switch {
	case err != nil:
		st.snap, st.err = nil, ErrUnreadable
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
	return s.call(ctx, "save", func(ctx context.Context) error {
		return s.provider.Save(ctx, name, r, c)
	})
}

// swap saves the record over the state st, and no other: the error is errMoved
// if another is stored. It can be repeated after an error of the backend, as the
// record has its version already: if that is stored, it was applied, and only
// the reply was lost.
func (s *store) swap(ctx context.Context, st *state, r Record) error {
	err := s.save(ctx, st.name, r, st.condition())
	if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrRemoved) {
		return err
	}
	now, err := s.load(ctx, st.name)
	if err == nil && (!now.found || now.version != r.Version) {
		return &errMoved{now: now}
	}
	return err
}

// call runs one provider call under its own deadline and sorts its error.
func (s *store) call(ctx context.Context, op string, f func(context.Context) error) error {
	own, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := f(own)
	switch {
	case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrConflict),
		errors.Is(err, ErrRemoved), errors.Is(err, ErrTooLarge), errors.Is(err, ErrBusy):
		return err
	case ctx.Err() != nil:
		return ctx.Err() // the caller's end, not the backend's failure
	}
	return unavailable(op, err)
}

// patiently repeats what a backend did not answer to, until ctx ends.
func patiently(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

// ownDeadline reports the end of a context that only its own deadline ends: the
// backend took too long, and nobody cancelled anything.
func ownDeadline(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: no answer in time", ErrUnavailable)
	}
	return err
}

// unavailable wraps an error as ErrUnavailable, nil as nil.
func unavailable(op string, err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, op, err)
}

// sleep waits for half to one and a half times d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d/2 + rand.N(d)) // #nosec G404 -- jitter, not a secret
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
