package tokencache

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// First tells whether it is called for the first time with that text, by whatever
// machine, until the time given: for what must not be accepted twice, such as a
// logout token. The backend is told an HMAC of the text and nothing else. Errors:
// [ErrUnavailable], the context's, and one for a text that is empty or a cache whose
// hooks are the persistence ([errors.ErrUnsupported]).
func (c *Cache) First(ctx context.Context, text string, until time.Time) (bool, error) {
	if c.hooks.persist {
		return false, errNoStore
	}
	name, err := c.names.name(keyID{kind: kindFirst, part: text})
	if err != nil {
		return false, err
	}
	// A tombstone is the smallest record, and nobody loads this one.
	r := Record{Version: newRemoval(time.Now()), Expires: until}
	err = c.store.saveAs(ctx, "first", name, r, Condition{})
	if !errors.Is(err, ErrConflict) {
		return err == nil, err
	}
	// It may be this very call's, if its reply was lost and the driver sent it again.
	st, err := c.store.load(ctx, name)
	return err == nil && st.version == r.Version, err
}

var errNoStore = fmt.Errorf("tokencache: hooks that persist remember partitions only: %w", errors.ErrUnsupported)
