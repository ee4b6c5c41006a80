package sql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

var errForeignMark = errors.New("sql: a removal mark is not one: another application writes to these tables; give each its own Prefix")

// Load reads a record and its owner's mark in one round trip. See
// [tokencache.Provider]. Record.Expires is by this machine's clock, from what the
// database says is left.
func (p *Provider) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	var r tokencache.Record
	got, err := p.db.load(ctx, n)
	switch {
	case err != nil:
		return r, err
	case len(got.mark) == len(r.Mark):
		r.Mark = tokencache.Version(got.mark)
	case len(got.mark) > 0:
		return r, errForeignMark
	}
	switch {
	case !got.found:
		return r, tokencache.ErrNotFound
	case got.size > tokencache.MaxSealedSize:
		return r, fmt.Errorf("%w: what is stored exceeds %d bytes", tokencache.ErrTooLarge, tokencache.MaxSealedSize)
	}
	if r.Expires = expiryOf(got.left); len(got.version) != len(r.Version) {
		// It is no tombstone and not absent, but something without a version that
		// does not open, and that the next sign-in replaces.
		r.Sealed = append(got.sealed, 0)
		return r, nil
	}
	r.Version, r.Sealed = tokencache.Version(got.version), got.sealed
	return r, nil
}

// Save is one statement in one round trip. See [tokencache.Provider]. When a reply
// is lost, one with a condition is sent again, which then finds its own version and
// answers [tokencache.ErrConflict]: the caller tells the two apart by loading.
func (p *Provider) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	if len(r.Sealed) > tokencache.MaxSealedSize {
		return fmt.Errorf("%w: %d bytes, at most %d", tokencache.ErrTooLarge, len(r.Sealed), tokencache.MaxSealedSize)
	}
	return answer(p.db.save(ctx, n, &r, lifeUntil(r.Expires), c))
}

// Touch changes an expiry without sending the record. See [tokencache.Toucher].
func (p *Provider) Touch(ctx context.Context, n tokencache.Name, v tokencache.Version, expires time.Time) error {
	return answer(p.db.touch(ctx, n, v, lifeUntil(expires)))
}

// answer is what an outcome means to the contract.
func answer(o outcome, err error) error {
	switch {
	case err != nil:
		return err
	case o == conflict:
		return tokencache.ErrConflict
	case o == removed:
		return tokencache.ErrRemoved
	case o == notFound:
		return tokencache.ErrNotFound
	}
	return nil
}
