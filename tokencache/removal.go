package tokencache

import (
	"encoding/binary"
	"time"
)

// newRemoval returns the version of a tombstone or a removal mark. Unlike other
// versions it starts with the time, in nanoseconds since 1970 (8 bytes), and
// has 8 random bytes: a sign-in that is still talking to the authorization server
// must be able to tell whether the user signed out since it began, even if it
// learns the account, and so the name to look under, only at its end.
func newRemoval(now time.Time) Version {
	v := NewVersion()
	binary.BigEndian.PutUint64(v[:8], uint64(now.UnixNano())) // #nosec G115 -- after 1970
	return v
}

// removalTime is the time in a tombstone's version or a removal mark.
func removalTime(v Version) time.Time {
	if v == (Version{}) {
		return time.Time{}
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(v[:8]))) // #nosec G115 -- as written
}
