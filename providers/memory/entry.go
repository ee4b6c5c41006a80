package memory

import (
	"math"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// entry is one stored record. All but prev and next is set before others see
// it and never changes: a save makes another entry.
type entry struct {
	name tokencache.Name
	// sealed is a string because strings cannot be changed, and because both
	// conversions copy, which is what the contract asks for.
	sealed  string
	version tokencache.Version
	// expires is in nanoseconds since 1970, never if it does not fit.
	expires int64
	// prev and next link the living entries of one owner. They belong to the
	// stripe's index lock.
	prev, next *entry
}

// never is an expiry that does not come.
const never = math.MaxInt64

// overhead is what an entry costs beside its content, in bytes: itself and
// otter's node (96 each), two names of 43 bytes (48 each), its places in
// otter's table and in the index (about 60), and rounding.
const overhead = 400

func newEntry(n tokencache.Name, r tokencache.Record) *entry {
	return &entry{name: n, sealed: string(r.Sealed), version: r.Version, expires: nanos(r.Expires)}
}

// until returns a copy of the entry with another expiry; the content is shared.
func (e *entry) until(expires time.Time) *entry {
	return &entry{name: e.name, sealed: e.sealed, version: e.version, expires: nanos(expires)}
}

// record returns the entry as Load does, in memory of its own.
func (e *entry) record() tokencache.Record {
	r := tokencache.Record{Version: e.version}
	if !e.removed() {
		r.Sealed = []byte(e.sealed)
	}
	if e.expires != never {
		r.Expires = time.Unix(0, e.expires)
	}
	return r
}

func (e *entry) removed() bool { return e.sealed == "" }

// expired tells exactly, which otter's own deadline does not after a step of
// the system's clock.
func (e *entry) expired(now time.Time) bool { return e.expires <= now.UnixNano() }

// life is how long the entry has from now, for otter: at least a nanosecond, as
// otter takes less for "keep the former deadline".
func (e *entry) life(now time.Time) time.Duration {
	if e.expires == never {
		return math.MaxInt64
	}
	return time.Duration(max(1, e.expires-now.UnixNano()))
}

// weight is what the entry costs in bytes. Otter does not evict what weighs
// nothing: a tombstone stays until it expires.
func (e *entry) weight() uint32 {
	if e.removed() {
		return 0
	}
	return uint32(len(e.sealed) + overhead) //nolint:gosec // Save limits it to MaxSealedSize
}

// nanos converts an expiry. The range of 64 bits ends in 2262, and what lies
// beyond might as well be never.
func nanos(t time.Time) int64 {
	if t.IsZero() || t.Year() > 2261 {
		return never
	}
	if t.Year() < 1970 {
		return 0
	}
	return t.UnixNano()
}
