// Package memory is a storage provider in the memory of this process. (It has
// nothing to do with identity providers.)
//
// It is for one process: development, tests, a single instance, a command. A
// restart signs everyone out, and so does an eviction: what the weight limit
// pushes out is gone, and those users sign in again. Behind more than one
// instance, use a provider that they share.
//
// Two Caches over one Provider behave as two machines over one store: there are
// leases, marks, an index of owners and notifications of changes. The bytes
// never leave the process, so a Cache needs no keys for it.
//
// # Memory
//
// A partition costs its sealed bytes, rounded up by Go's allocator by at most a
// fifth, and about 400 bytes for its names, its entry and the index. Options.MaxBytes
// limits the sum; the number of users that fit is MaxBytes divided by
// the size of a partition, typically 4 to 16 KB. Which ones go is otter's
// choice, by frequency and recency; in a full provider that may be the one just
// saved. It works in the background, so that the limit may be exceeded for a
// moment.
//
// Tombstones and removal marks are never evicted, as a partition would come
// back to life without them. They are small, expire by themselves and are
// limited in number: one per KiB of MaxBytes, and at least 1024. Beyond that a
// removal fails, rather than being forgotten.
//
// What it holds can move to another provider with [tokencache.Migrate], if its Cache has
// keys.
package memory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Options are the options of [New].
type Options struct {
	// MaxBytes limits the memory of all partitions, in bytes. Defaults to
	// 256 MiB, which holds some 59,000 users of 4 KB. At least 4 MiB, so
	// that the largest partition fits well.
	MaxBytes uint64
}

const (
	defaultMaxBytes = 256 << 20
	leastMaxBytes   = 4 << 20
	// bytesPerTombstone and leastTombstones limit tombstones, see the package
	// comment. Marks have the same limit of their own.
	bytesPerTombstone = 1 << 10
	leastTombstones   = 1 << 10
)

// maxBytes returns the limit, or an error.
func (o *Options) maxBytes() (uint64, error) {
	if o == nil || o.MaxBytes == 0 {
		return defaultMaxBytes, nil
	}
	if o.MaxBytes < leastMaxBytes || o.MaxBytes > math.MaxInt64 {
		return 0, fmt.Errorf("memory: Options.MaxBytes is %d; it must be 0 or at least %d", o.MaxBytes, leastMaxBytes)
	}
	return o.MaxBytes, nil
}

// Provider keeps records in memory. It is safe for concurrent use. It offers
// every capability of [tokencache.Capabilities]; its Sweep is optional, as
// what has expired goes by itself within about a second.
type Provider struct {
	// Locks are always taken in this order, so that an eviction, which may
	// happen inside any call, can update the index:
	//
	//  1. a stripe's gate, shared by Load and Save and exclusive in SetMark, so
	//     that no Save is halfway when a mark is set;
	//  2. otter's eviction lock, by whoever maintains the cache;
	//  3. otter's lock on a name, inside which conditions are decided and
	//     evictions happen;
	//  4. a stripe's index lock, which is held for a few pointers only and under
	//     which nothing else is called.
	records *otter.Cache[tokencache.Name, *entry]
	stripes stripes
	leases  leases
	// subscribers are told of changes, outside of all of these locks.
	subscribers subscribers

	// tombstones counts the entries that eviction must not touch.
	tombstones    atomic.Int64
	maxTombstones int64
	// expired counts entries that have expired since the last Sweep.
	expired atomic.Int64
	closed  atomic.Bool
}

var (
	_ tokencache.Provider   = (*Provider)(nil)
	_ tokencache.Leaser     = (*Provider)(nil)
	_ tokencache.Toucher    = (*Provider)(nil)
	_ tokencache.OwnerIndex = (*Provider)(nil)
	_ tokencache.Watcher    = (*Provider)(nil)
	_ tokencache.Sweeper    = (*Provider)(nil)
	_ tokencache.Pinger     = (*Provider)(nil)
	_ tokencache.Lister     = (*Provider)(nil)
)

var (
	errClosed = errors.New("memory: the provider is closed")
	errFull   = errors.New("memory: too many removals at once")
)

// New returns an empty provider; nil options are the defaults. It starts a
// goroutine that drops what has expired, until [Provider.Close].
func New(o *Options) (*Provider, error) {
	maxBytes, err := o.maxBytes()
	if err != nil {
		return nil, err
	}
	most := max(leastTombstones, int64(maxBytes/bytesPerTombstone)) //nolint:gosec // maxBytes checked it
	p := &Provider{maxTombstones: most}
	p.stripes.init(most)
	p.records, err = otter.New(&otter.Options[tokencache.Name, *entry]{
		MaximumWeight: maxBytes,
		Weigher:       func(_ tokencache.Name, e *entry) uint32 { return e.weight() },
		// Writing: a read leaves the deadline alone.
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[tokencache.Name, *entry]) time.Duration {
			return e.Value.life(time.Now())
		}),
		OnAtomicDeletion: p.deleted,
	})
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	return p, nil
}

// Close stops the goroutine of [New] and ends every Watch. Calls that come after
// it fail with an error, and what the provider held is lost. Closing again does
// nothing. Close does not wait for anyone, and always returns nil.
func (p *Provider) Close(context.Context) error {
	if p.closed.Swap(true) {
		return nil
	}
	p.subscribers.close()
	p.records.StopAllGoroutines()
	return nil
}

// ready returns why a call must not even begin.
func (p *Provider) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.closed.Load() {
		return errClosed
	}
	return nil
}

// Capabilities returns all of them. See [tokencache.Provider].
func (p *Provider) Capabilities() tokencache.Capabilities {
	return tokencache.Capabilities{
		InProcess: true,
		Leaser:    p,
		Toucher:   p,
		Owners:    p,
		Watcher:   p,
		Sweeper:   p,
		Pinger:    p,
		Lister:    p,
	}
}
