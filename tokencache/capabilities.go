package tokencache

import (
	"context"
	"errors"
	"time"
)

// Capabilities tells what a [Provider] offers beyond Load and Save. A nil field
// is not offered. A provider that wraps another passes these on, wrapped as it
// wraps Load and Save, never dropped.
type Capabilities struct {
	// InProcess promises that the bytes never leave this process, so that a
	// [Cache] needs no keys to protect them.
	InProcess bool
	// Encrypts promises that the provider itself protects what it stores, or has been
	// told by whoever made it that it need not: a [Cache] needs no keys for it.
	Encrypts bool
	// Local promises that the store is on this machine, and that Load is quick and
	// answers with what is stored at that moment, whoever wrote it, as reading a file
	// does. A Cache then keeps no copies of its own, which could only be older
	// ([Options.L1MaxAge] is nothing), and waits for it as long as for one that is
	// InProcess.
	Local bool
	// Punctual promises that every call ends when the deadline of its context has
	// passed, or within moments of it, whatever the backend does. What is
	// InProcess promises it as well. Other calls a [Cache] makes in a goroutine
	// each, which it leaves alone when it is late; to start that and wait for it
	// takes as long as a near backend's answer.
	Punctual bool
	// Leaser locks one partition across machines. Without it, two machines may
	// spend one refresh token at the same moment; servers that rotate refresh
	// tokens then sign the user out.
	Leaser Leaser
	// Toucher extends an expiry without rewriting the record.
	Toucher Toucher
	// Owners finds everything that belongs to one owner. Without it, signing
	// out everywhere reaches the account's own partition only.
	Owners OwnerIndex
	// Watcher tells of changes by other machines. Without it, their copies
	// live on in this process until [Options.L1MaxAge].
	Watcher Watcher
	// Sweeper drops what has expired, for backends that do not by themselves.
	Sweeper Sweeper
	// Pinger tells whether the backend answers, for health checks.
	Pinger Pinger
	// Lister goes through everything that is stored, for [Migrate] and
	// [Cache.Accounts].
	Lister Lister
}

// Leaser grants leases: renewed, expiring locks on one partition. A lease is
// advice: it keeps two machines from doing the same work, while conditions keep
// their writes apart.
type Leaser interface {
	// Acquire takes the lease on name for ttl, without waiting. The error is
	// [ErrBusy] if another holds it; any other error means that the backend
	// could not tell. A lease that has run out may be taken by anyone.
	Acquire(ctx context.Context, name Name, ttl time.Duration) (Lease, error)
}

// Lease is a lease that was acquired.
type Lease interface {
	// Renew extends the lease to ttl from now. The error is [ErrConflict] if
	// the lease has run out, whether or not another holds it now.
	Renew(ctx context.Context, ttl time.Duration) error
	// Release gives the lease back. Releasing a lease that was lost does
	// nothing to its new holder and is not an error.
	Release(ctx context.Context) error
}

// Toucher extends expiries.
type Toucher interface {
	// Touch sets the expiry of the record under name if it has the version v.
	// The error is [ErrConflict] if it has another and [ErrNotFound] if there
	// is none.
	Touch(ctx context.Context, name Name, v Version, expires time.Time) error
}

// OwnerIndex knows which partitions belong to an owner.
//
// An owner is removed by setting a mark and then saving a tombstone over each
// partition that is listed. The mark comes first, so that a partition being
// created meanwhile, by a writer that saw the mark before, is refused.
type OwnerIndex interface {
	// SetMark sets the owner's removal mark until it expires. From then on
	// Save refuses records that carry another mark with [ErrRemoved]. An
	// earlier mark is replaced.
	SetMark(ctx context.Context, owner string, mark Version, expires time.Time) error
	// List returns the names of the owner's partitions that are neither
	// removed nor expired, in no order. No partition is not an error.
	List(ctx context.Context, owner string) ([]Name, error)
}

// Watcher tells of changes.
type Watcher interface {
	// Watch calls notify for each change of a record until ctx ends, and then
	// returns ctx.Err(). It starts with a Change that is Missed, and sends
	// another one whenever changes may have been lost, such as after a
	// reconnection. Of a record that has changed again meanwhile, the last
	// change may stand for those before. Changes made through the same provider
	// value are told too. Calls may come from several goroutines, also from
	// inside Save; notify does not block and does not call the provider.
	Watch(ctx context.Context, notify func(Change)) error
}

// Change is one message of a [Watcher].
type Change struct {
	// Name is the partition that changed.
	Name Name
	// Version is what it changed to.
	Version Version
	// Replaced is the version that was there before. Zero means that none was, or
	// that the provider cannot tell. A [Cache] that is told does not use what comes
	// back when the backend fails over and loses acknowledged writes.
	Replaced Version
	// Missed means that changes may have been lost, of any name.
	Missed bool
}

// Sweeper drops expired records.
type Sweeper interface {
	// Sweep removes expired records, tombstones and marks, and returns how
	// many. It may run on every machine at once.
	Sweep(ctx context.Context) (int, error)
}

// Pinger checks the connection to the backend.
type Pinger interface {
	// Ping returns nil if the backend answers.
	Ping(ctx context.Context) error
}

// Lister goes through everything that is stored.
type Lister interface {
	// Names returns a page of the names under which something is stored, tombstones
	// included, and where the next page begins. The cursor "" is the first page, and
	// next is "" with the last one. A page has at most some hundred names, or none.
	//
	// What is there from the first page to the last is named at least once. What
	// comes or goes meanwhile, and what has expired, may be or not. A cursor can be
	// used again, and by another provider over the same store, such as that of the
	// next process. The error is [ErrCursor] for one that is not of this store, as
	// far as can be told. No call holds up the backend, whatever is stored.
	Names(ctx context.Context, cursor string) (names []Name, next string, err error)
}

// ErrCursor means that a cursor was altered, or is one of another store.
var ErrCursor = errors.New("tokencache: the cursor is not one of this store")
