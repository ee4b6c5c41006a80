package tokencache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A note is what the journal has under a name: the versions that a migration has put
// there, or is about to, and the owner's mark in the source with the last of them. It is
// written first, so that no copy is without one. A note too many does no harm: only
// what the target has under exactly such a version is taken for a copy.
//
//	bytes 0-3   "CCJ1"
//	byte  4     noteComing, noteThere or noteRemoved, of the last version
//	bytes 5-20  the mark
//	the rest    versions, 16 bytes each, the last one last
type note struct {
	record   Record // as stored
	there    bool
	state    byte
	mark     Version
	versions []Version
}

const (
	noteLabel   = "CCJ1"
	noteComing  = 0
	noteThere   = 1
	noteRemoved = 2 // a tombstone is, or was, there
	// noteVersions bounds them. Machines that migrate at the same moment may each have
	// another one on its way.
	noteVersions = 32
	// journalFew may be gone without a trace from a source that has still less.
	journalFew = 10
)

var (
	errJournal = errors.New("tokencache: the Journal has something else in it: give it a store of its own")
	errEmptied = errors.New("tokencache: more is gone from the source than it still has, as from a store that was emptied: " +
		"nothing is removed from the target for that")
)

func (n *note) has(v Version) bool { return n != nil && slices.Contains(n.versions, v) }

// wasThere tells whether a copy was in the target, and should be still: where it is not,
// it was removed there. A note ends with its copy, but not at the very moment.
func (n *note) wasThere() bool {
	return n != nil && n.state == noteThere && (n.record.Expires.IsZero() || time.Until(n.record.Expires) > time.Minute)
}

// note loads the note of the name; nil if there is no journal.
func (mv *moving) note(ctx context.Context) (*note, error) {
	if mv.journal == nil {
		return nil, nil //nolint:nilnil // what is not noted is nobody's
	}
	r, there, err := mv.journal.load(ctx, mv.name)
	if err != nil || !there {
		return &note{record: r}, err
	}
	n := &note{record: r, there: true}
	rest, ok := bytes.CutPrefix(r.Sealed, []byte(noteLabel))
	size := len(Version{})
	if !ok || len(rest) < 1+size || len(rest)%size != 1 {
		return nil, errJournal
	}
	n.state, rest = rest[0], rest[1:]
	n.mark = Version(rest[:size])
	for rest = rest[size:]; len(rest) > 0; rest = rest[size:] {
		n.versions = append(n.versions, Version(rest[:size]))
	}
	return n, nil
}

// write notes that the record is about to be put there, or is there. The note lives as
// long as the record, or as the one before it.
func (mv *moving) write(ctx context.Context, n *note, r *Record, state byte) error {
	if n == nil {
		return nil
	}
	if r.Removed() && state == noteThere {
		state = noteRemoved
	}
	expires := r.Expires
	if n.there && early(expires, n.record.Expires) {
		expires = n.record.Expires
	}
	if n.has(r.Version) && n.state == state && n.mark == r.Mark && !early(n.record.Expires, expires) {
		return nil
	}
	next := &note{there: true, state: state, mark: r.Mark}
	next.versions = slices.DeleteFunc(slices.Clone(n.versions), func(v Version) bool { return v == r.Version })
	next.versions = append(next.versions, r.Version)
	next.versions = next.versions[max(0, len(next.versions)-noteVersions):]
	next.record = Record{Version: NewVersion(), Mark: n.record.Mark, Expires: expires}
	next.record.Sealed = append([]byte(noteLabel), state)
	for _, v := range append([]Version{next.mark}, next.versions...) {
		next.record.Sealed = append(next.record.Sealed, v[:]...)
	}
	cond := Condition{}
	if n.there {
		cond = IfVersion(n.record.Version)
	}
	err := mv.journal.save(ctx, mv.name, next.record, cond)
	if errors.Is(err, ErrConflict) {
		return fmt.Errorf("%w: another migration notes the same", ErrUnavailable) // and all is looked at again
	}
	if err == nil {
		*n = *next
	}
	return err
}

// prune removes from the target what the source has no more, if it is a copy.
func (m *migration) prune(ctx context.Context, mv *moving) (fate, error) {
	src, there, err := m.from.load(ctx, mv.name)
	switch {
	case err != nil && !errors.Is(err, ErrTooLarge):
		return again, err
	case there || err != nil:
		return nothing, nil // copy has seen to it, or the next one will
	}
	n, err := mv.note(ctx)
	switch {
	case err != nil:
		return again, err
	case !n.there || !n.record.Expires.IsZero() && time.Until(n.record.Expires) < time.Minute:
		return nothing, nil // it has expired
	}
	dst, found, err := m.to.load(ctx, mv.name)
	switch {
	case errors.Is(err, ErrTooLarge):
		return nothing, nil
	case err != nil:
		return again, err
	case !found || dst.Removed() || !n.has(dst.Version):
		return nothing, nil
	case src.Mark != (Version{}) && src.Mark != n.mark: // its owner was removed
	case !mv.mayBeGone():
		return again, errEmptied
	}
	return mv.bury(ctx, n, dst)
}

// mayBeGone counts what is missing from the source without a trace.
func (mv *moving) mayBeGone() bool {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	if !mv.counted {
		mv.counted = true
		mv.missing++
	}
	return mv.at.There > 0 && mv.at.Missing+mv.missing <= max(mv.at.There, journalFew)
}

// countThere counts what the source has.
func (mv *moving) countThere() {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	mv.there++
}

// checkJournal is an error if what is noted can be seen in the source or the target.
func (m *migration) checkJournal(ctx context.Context) error {
	mv := &moving{migration: m, name: randomName()}
	n := &note{}
	r := Record{Version: NewVersion(), Expires: time.Now().Add(time.Minute)}
	if err := mv.write(ctx, n, &r, noteComing); err != nil {
		return err
	}
	seen := false
	for _, e := range []*end{m.from, m.to} {
		_, there, err := e.load(ctx, mv.name)
		if err != nil {
			return err
		}
		seen = seen || there
	}
	over := Record{Version: NewVersion(), Mark: n.record.Mark, Expires: time.Now().Add(-time.Second)}
	err := m.journal.save(ctx, mv.name, over, IfVersion(n.record.Version))
	if seen {
		return errJournal
	}
	return err
}
