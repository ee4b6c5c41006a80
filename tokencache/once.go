package tokencache

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Once calls the function unless it has been done for the same text before, on
// whatever machine, until the time given: for what must not be accepted twice, such as
// a logout token. It tells whether it has called it. Two calls at the same moment may
// both do it, and what has failed is not remembered, so that it can be repeated. The
// backend is told an HMAC of the text and nothing else.
//
// Errors: the function's, [ErrUnavailable], the context's, and one for a text that is
// empty or a cache whose hooks are the persistence ([errors.ErrUnsupported]).
func (c *Cache) Once(ctx context.Context, text string, until time.Time, do func(context.Context) error) (done bool, err error) {
	if c.hooks.persist {
		return false, errNoStore
	}
	name, err := c.names.name(keyID{kind: kindOnce, part: text})
	if err != nil {
		return false, err
	}
	if st, err := c.store.load(ctx, name); err != nil || st.found {
		return false, err
	}
	if err := do(ctx); err != nil {
		return true, err
	}
	// A tombstone is the smallest record, and nobody takes this one for a partition.
	r := Record{Version: newRemoval(time.Now()), Expires: until}
	// It is done, whether or not that can be noted: once more does no harm then.
	_ = patiently(ctx, func() error { return c.store.save(ctx, name, r, Condition{}) })
	return true, nil
}

var errNoStore = fmt.Errorf("tokencache: hooks that persist remember partitions only: %w", errors.ErrUnsupported)
