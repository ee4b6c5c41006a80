package sql

import (
	"context"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// dialect is what a database does for a [Provider]: each method is one statement,
// or a few, and answers in terms of the tables. What the answers mean to the
// contract of tokencache is the provider's part. Lives are in milliseconds, from
// now by the database's clock; forever is one without end, and 0 is over. Errors
// are those of the edge: of the type [failure], and the end of a context. None of
// the methods waits for another call of its own kind longer than ctx allows.
type dialect interface {
	// migrate brings the schema to the last of the migrations, see schema.go.
	migrate(ctx context.Context) error
	// check answers what there is of a schema.
	check(ctx context.Context) (schemaState, error)
	// schema are the migrations, the first of which makes version 1.
	schema() []migration
	// offers is what this database can do, with the provider in the fields.
	offers(p *Provider) tokencache.Capabilities

	load(ctx context.Context, n tokencache.Name) (stored, error)
	// save stores a record, which is a tombstone if it has no contents.
	save(ctx context.Context, n tokencache.Name, r *tokencache.Record, life int64, c tokencache.Condition) (outcome, error)
	touch(ctx context.Context, n tokencache.Name, v tokencache.Version, life int64) (outcome, error)
	setMark(ctx context.Context, owner string, mark tokencache.Version, life int64) error
	// list answers partitions that are neither removed nor over.
	list(ctx context.Context, owner string) ([]string, error)
	// names answers up to most names that come after one, in the order of the bytes.
	names(ctx context.Context, after tokencache.Name, most int) ([]tokencache.Name, error)
	// kind tells cursors of one dialect from those of another.
	kind() string

	// acquire takes a lease that nobody holds, or the same holder. What it answers
	// with an error that is unsure (see [unsure]) may have happened.
	acquire(ctx context.Context, n tokencache.Name, holder []byte, life int64) (bool, error)
	renew(ctx context.Context, n tokencache.Name, holder []byte, life int64) (bool, error)
	release(ctx context.Context, n tokencache.Name, holder []byte) (bool, error)

	// sweep removes some of what is over, and answers how many records and marks
	// that were, and whether there may be more.
	sweep(ctx context.Context) (count int, more bool, err error)
	ping(ctx context.Context) error
	// poller begins to look for changes. Nothing is told of those before its first
	// poll.
	poller(ctx context.Context) (poller, error)
}

// poller looks for changes. It is used by one goroutine.
type poller interface {
	// poll returns what has changed since the last call, in any order, and whether
	// more may have changed than that. A record that changed several times is
	// told of once. An error ends the poller; the next one begins anew.
	poll(ctx context.Context) (changes []tokencache.Change, missed bool, err error)
	// wait returns when it is time for the next poll, or when ctx ends.
	wait(ctx context.Context)
	close()
}

// stored is what a load has found.
type stored struct {
	found   bool
	mark    []byte // nil: none
	version []byte
	size    int    // of the contents; 0 is a tombstone
	sealed  []byte // nil if it is larger than it may be
	left    int64  // of its life, or forever
}

// outcome is what a statement with a condition has come to.
type outcome int

const (
	done outcome = iota
	conflict
	removed  // the owner's mark is not the one that the writer saw
	notFound // of a touch
)

// forever is a life without end.
const forever = -1

// lifeUntil is how long something lives that expires then, in milliseconds. It is
// counted by this machine's clock and kept by the database's, so that the two need
// not agree. A part of a millisecond counts as a whole one: none means that it is
// over.
func lifeUntil(expires time.Time) int64 {
	if expires.IsZero() {
		return forever
	}
	left := time.Until(expires)
	if left <= 0 {
		return 0
	}
	return milliseconds(left)
}

// expiryOf is the time, by this machine's clock, at which what is left of a life
// ends.
func expiryOf(left int64) time.Time {
	if left < 0 {
		return time.Time{}
	}
	const most = int64(1 << 62 / time.Millisecond) // a hundred years and more
	return time.Now().Add(time.Duration(min(left, most)) * time.Millisecond)
}

// milliseconds rounds up.
func milliseconds(d time.Duration) int64 {
	return int64((d-1)/time.Millisecond) + 1
}
