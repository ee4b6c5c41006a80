package tokencache

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"
)

// copy brings one name of the target up to date with the source. It can be repeated at
// any point: what an attempt has left behind is told by its version, as versions are
// random. A version that the target has and that came from here was changed by nobody
// since; anything else is somebody's, and left alone.
func (m *migration) copy(ctx context.Context, mv *moving) (fate, error) {
	src, there, err := m.from.load(ctx, mv.name)
	switch {
	case errors.Is(err, ErrTooLarge):
		return refused, nil
	case err != nil:
		return again, err
	case !there:
		return mv.vanished(ctx)
	case !mv.fit(&src):
		return refused, nil
	}
	dst, found, err := m.to.load(ctx, mv.name)
	switch {
	case errors.Is(err, ErrTooLarge):
		return left, nil
	case err != nil:
		return again, err
	}
	n, err := mv.note(ctx)
	if err != nil {
		return again, err
	}
	mine := found && (slices.Contains(mv.mine, dst.Version) || n.has(dst.Version))
	intact := found && dst.Version == src.Version && bytes.Equal(dst.Sealed, src.Sealed)
	var f fate
	switch {
	case intact:
		f, err = mv.sameThere(ctx, n, src, dst)
	case found && !mine, !found && n.wasThere() && len(mv.mine) == 0:
		f = left
	default:
		f, err = mv.bring(ctx, n, src, dst, found)
	}
	if err == nil && f != again && !src.Removed() {
		mv.countThere()
	}
	return f, err
}

// fit tells whether the record may be copied: it is one of a Cache, and it is encrypted
// or stays where it need not be. A tombstone has nothing in it.
func (mv *moving) fit(r *Record) bool {
	if r.Version == (Version{}) {
		return false
	}
	if b := r.Sealed; !r.Removed() {
		if len(b) < envelopeHeader || b[0] != 'C' || b[1] != 'C' || b[2] != envelopeFormat || b[3] > protectionAEAD {
			return false
		}
		return b[3] != protectionNone || mv.to.caps.InProcess || mv.to.caps.Encrypts || mv.opts.AllowUnencryptedStorage
	}
	return true
}

// sameThere is for what the target has already. It moves the expiry if the source's was
// moved since.
func (mv *moving) sameThere(ctx context.Context, n *note, src, dst Record) (fate, error) {
	if !src.Removed() && newerMark(src.Mark, dst.Mark) {
		// It was saved before the owner was removed from the source, which hides it.
		return mv.bury(ctx, n, dst)
	}
	if err := mv.write(ctx, n, &src, noteThere); err != nil {
		return again, err
	}
	// What the target's mark hides must not outlive it.
	if early(dst.Expires, src.Expires) && dst.Mark == src.Mark {
		err := mv.to.save(ctx, mv.name, src, IfVersion(dst.Version))
		if errors.Is(err, ErrConflict) || errors.Is(err, ErrRemoved) {
			err = nil // it was changed just now
		}
		return again, err // to be looked at
	}
	if !slices.Contains(mv.mine, src.Version) {
		return same, nil
	}
	return mv.confirm(ctx, n, src) // an earlier attempt has put it there
}

// bring saves the record over what the target has, which is nothing or a copy.
func (mv *moving) bring(ctx context.Context, n *note, src, dst Record, found bool) (fate, error) {
	r := src
	if !src.Removed() && src.Mark != dst.Mark {
		ok, err := mv.adopt(ctx, src.Mark, dst.Mark)
		if err != nil {
			return again, err
		}
		if !ok {
			return left, nil
		}
	}
	cond := Condition{}
	if found {
		cond = IfVersion(dst.Version)
	}
	if f, err := mv.put(ctx, n, r, cond); err != nil || f == again || f == failed {
		return f, err
	}
	got, there, err := mv.to.load(ctx, mv.name)
	switch {
	case err != nil:
		return again, err
	case there && got.Version != r.Version:
		// Somebody has changed it just now.
	case !there && !r.Expires.IsZero() && time.Until(r.Expires) < migrateOff:
		return gone, nil
	case !there, !bytes.Equal(got.Sealed, r.Sealed), early(got.Expires, r.Expires):
		return again, nil
	}
	return mv.confirm(ctx, n, r)
}

// put saves the record, and has it known as a copy before.
func (mv *moving) put(ctx context.Context, n *note, r Record, cond Condition) (fate, error) {
	if err := mv.write(ctx, n, &r, noteComing); err != nil {
		return again, err
	}
	mv.mine = append(mv.mine, r.Version)
	switch err := mv.to.save(ctx, mv.name, r, cond); {
	case errors.Is(err, ErrConflict), errors.Is(err, ErrRemoved):
		return again, nil
	case errors.Is(err, ErrTooLarge):
		return failed, nil
	case err != nil:
		return again, err
	}
	return copied, nil
}

// confirm looks whether the source still has the record. If it was changed or removed
// while it was on its way, the copy is not left behind.
func (mv *moving) confirm(ctx context.Context, n *note, r Record) (fate, error) {
	now, there, err := mv.from.load(ctx, mv.name)
	switch {
	case err != nil && !errors.Is(err, ErrTooLarge):
		return again, err
	case there && now.Version == r.Version && now.Mark == r.Mark:
	case !there && !r.Expires.IsZero() && time.Until(r.Expires) < migrateOff:
	default:
		return again, nil
	}
	if err := mv.write(ctx, n, &r, noteThere); err != nil {
		return again, err
	}
	if r.Removed() {
		return removed, nil
	}
	return copied, nil
}

// vanished is for what the source has no more. What this call has put into the target
// just now goes as well.
func (mv *moving) vanished(ctx context.Context) (fate, error) {
	if len(mv.mine) == 0 {
		return gone, nil
	}
	dst, found, err := mv.to.load(ctx, mv.name)
	switch {
	case err != nil:
		return again, err
	case !found || dst.Removed() || !slices.Contains(mv.mine, dst.Version):
		return gone, nil
	}
	n, err := mv.note(ctx)
	if err != nil {
		return again, err
	}
	return mv.bury(ctx, n, dst)
}

// bury saves a tombstone over a copy.
func (mv *moving) bury(ctx context.Context, n *note, dst Record) (fate, error) {
	now := time.Now()
	tomb := Record{Version: newRemoval(now), Mark: dst.Mark, Expires: now.Add(tombstoneLife)}
	if f, err := mv.put(ctx, n, tomb, IfVersion(dst.Version)); err != nil || f != copied {
		return f, err
	}
	return removed, nil
}

// early tells whether the first expiry comes before the second.
func early(a, b time.Time) bool {
	return !a.IsZero() && (b.IsZero() || a.Before(b.Add(-migrateOff)))
}

// newerMark tells whether the mark is of a later removal than the other, which may be
// none.
func newerMark(mark, than Version) bool {
	return mark != Version{} && removalTime(mark).After(removalTime(than))
}

// adopt has the target take over the source's removal mark of the owner, and tells
// whether that may be. A record of an owner who was removed may be from before, which
// is sealed in it: then the mark hides it. So no such record goes where the mark is not.
//
// But the mark hides all else of the owner that was saved without it, such as a new
// sign-in. So everything that the target has of the owner must be copies.
func (mv *moving) adopt(ctx context.Context, mark, now Version) (bool, error) {
	if mv.from.caps.Owners == nil || mv.to.caps.Owners == nil || !newerMark(mark, now) {
		return false, nil
	}
	owner := mv.name.Owner
	names, err := mv.to.list(ctx, owner)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if ok, err := (&moving{migration: mv.migration, name: name, mine: mv.mine}).isCopy(ctx); err != nil || !ok {
			return false, err
		}
	}
	until, err := mv.markUntil(ctx, mark)
	if err != nil {
		return false, err
	}
	err = mv.to.calls.do(ctx, "mark", func(ctx context.Context) error {
		return mv.to.caps.Owners.SetMark(ctx, owner, mark, until)
	})
	return err == nil, err
}

// isCopy tells whether what the target has under the name, if anything, came from the
// source.
func (mv *moving) isCopy(ctx context.Context) (bool, error) {
	dst, found, err := mv.to.load(ctx, mv.name)
	if err != nil || !found || dst.Removed() {
		return err == nil, err
	}
	if slices.Contains(mv.mine, dst.Version) {
		return true, nil
	}
	src, there, err := mv.from.load(ctx, mv.name)
	if err != nil || there && src.Version == dst.Version {
		return err == nil, err
	}
	n, err := mv.note(ctx)
	return err == nil && n.has(dst.Version), err
}

// markUntil is when the mark may go: when all that it hides has vanished, and not before
// the source's own, which outlives what is there by a twentieth of its life.
func (mv *moving) markUntil(ctx context.Context, mark Version) (time.Time, error) {
	names, err := mv.from.list(ctx, mv.name.Owner)
	if err != nil {
		return time.Time{}, err
	}
	last := time.Now().Add(tombstoneLife)
	for _, name := range names {
		r, there, err := mv.from.load(ctx, name)
		switch {
		case errors.Is(err, ErrTooLarge) || err == nil && !there:
		case err != nil:
			return time.Time{}, err
		case r.Expires.IsZero():
			return time.Time{}, nil // never
		case r.Expires.After(last):
			last = r.Expires
		}
	}
	return last.Add(max(0, last.Sub(removalTime(mark))/10) + time.Minute), nil
}
