package file

import (
	"bytes"
	"context"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// records are the methods that a Provider and a Stream have in common.
type records struct{ content content }

// content is where a document is kept.
type content interface {
	// read returns the document, which the caller does not change.
	read(ctx context.Context) (*document, error)
	// change replaces the document by what edit makes of a copy, unless edit fails.
	change(ctx context.Context, edit func(d *document, now time.Time) error) error
}

// Load returns the record stored under name. See [tokencache.Provider].
func (r *records) Load(ctx context.Context, name tokencache.Name) (tokencache.Record, error) {
	d, err := r.content.read(ctx)
	if err != nil {
		return tokencache.Record{}, err
	}
	now := time.Now()
	found, ok := d.find(name, now)
	if !ok {
		return tokencache.Record{Mark: d.mark(name.Owner, now)}, tokencache.ErrNotFound
	}
	return tokencache.Record{
		Sealed: bytes.Clone(found.sealed), Version: found.version,
		Mark: d.mark(name.Owner, now), Expires: found.expires,
	}, nil
}

// Save stores the record under name if the condition holds. See [tokencache.Provider].
// The largest content is [tokencache.MaxSealedSize], and all together may have 32 MiB.
func (r *records) Save(ctx context.Context, name tokencache.Name, rec tokencache.Record, cond tokencache.Condition) error {
	if len(rec.Sealed) > tokencache.MaxSealedSize {
		return tokencache.ErrTooLarge
	}
	next := record{version: rec.Version, expires: rec.Expires}
	if !rec.Removed() {
		next.sealed = bytes.Clone(rec.Sealed)
	}
	return r.content.change(ctx, func(d *document, now time.Time) error {
		if mark := d.mark(name.Owner, now); !rec.Removed() && mark != (tokencache.Version{}) && mark != rec.Mark {
			return tokencache.ErrRemoved
		}
		old, ok := d.find(name, now)
		if !holds(cond, old, ok) {
			return tokencache.ErrConflict
		}
		d.records[name] = next
		if len(next.sealed) > len(old.sealed) && d.size() > maxContent {
			return errFull
		}
		return nil
	})
}

// holds tells whether the condition holds over what is stored, if anything is.
func holds(cond tokencache.Condition, old record, stored bool) bool {
	if cond.Unconditional() {
		return true
	}
	if v, ok := cond.Version(); ok {
		return stored && old.version == v
	}
	return !stored
}

// Touch sets the expiry of the record under name. See [tokencache.Toucher]. Here it
// takes as long as a Save.
func (r *records) Touch(ctx context.Context, name tokencache.Name, v tokencache.Version, expires time.Time) error {
	return r.content.change(ctx, func(d *document, now time.Time) error {
		old, ok := d.find(name, now)
		switch {
		case !ok:
			return tokencache.ErrNotFound
		case old.version != v:
			return tokencache.ErrConflict
		}
		old.expires = expires
		d.records[name] = old
		return nil
	})
}

// SetMark sets the owner's removal mark until it expires; the zero time means never. See
// [tokencache.OwnerIndex]. The zero mark takes a mark away.
func (r *records) SetMark(ctx context.Context, owner string, version tokencache.Version, expires time.Time) error {
	return r.content.change(ctx, func(d *document, _ time.Time) error {
		d.marks[owner] = mark{version: version, expires: expires}
		if version == (tokencache.Version{}) {
			delete(d.marks, owner)
		}
		return nil
	})
}

// List returns the names of the owner's partitions that are neither removed nor expired.
// See [tokencache.OwnerIndex].
func (r *records) List(ctx context.Context, owner string) (names []tokencache.Name, err error) {
	d, err := r.content.read(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for n, stored := range d.records {
		if n.Owner == owner && len(stored.sealed) > 0 && !gone(stored.expires, now) {
			names = append(names, n)
		}
	}
	return names, nil
}

// Sweep drops what has expired, as every other change does, and returns how many records,
// tombstones and marks that were. See [tokencache.Sweeper].
func (r *records) Sweep(ctx context.Context) (count int, err error) {
	d, err := r.content.read(ctx)
	if err != nil {
		return 0, err
	}
	if count = d.expired(time.Now()); count == 0 {
		return 0, nil
	}
	err = r.content.change(ctx, func(*document, time.Time) error { return nil })
	return count, err
}

// Ping returns nil if the content can be read. See [tokencache.Pinger].
func (r *records) Ping(ctx context.Context) error {
	_, err := r.content.read(ctx)
	return err
}
