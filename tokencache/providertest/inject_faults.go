package providertest

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Down is a backend that is not there: every call fails at once, with ErrFault.
func Down() Fault {
	return func(context.Context, *Call) error { return ErrFault }
}

// Hang is a backend that accepts calls and does not answer: a call waits until
// its context ends, and returns the context's error. Once the fault is over,
// the call goes on, as when a network comes back.
func Hang() Fault {
	return func(ctx context.Context, c *Call) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.Over():
			return c.Do(ctx)
		}
	}
}

// HangDeaf is a driver that hangs and does not notice that its caller has given
// up: a call waits whether or not its context ends, until the fault is over or
// for most, and then goes on. Zero and less wait without a bound.
func HangDeaf(most time.Duration) Fault {
	return func(ctx context.Context, c *Call) error {
		var bound <-chan time.Time
		if most > 0 {
			timer := time.NewTimer(most)
			defer timer.Stop()
			bound = timer.C
		}
		select {
		case <-c.Over():
		case <-bound:
		}
		return c.Do(ctx)
	}
}

// Slow is a backend that answers late: a call waits for delay before it is made.
// If its context ends meanwhile, it returns the context's error. A Watch begins
// late; what it then tells comes at once.
func Slow(delay time.Duration) Fault {
	return func(ctx context.Context, c *Call) error {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return c.Do(ctx)
		}
	}
}

// LoseReplies is a connection that breaks after the backend has done its work: a
// call is made, and then fails with ErrFault, so that the caller cannot know.
// It leaves a Watch alone, which has no reply.
func LoseReplies() Fault {
	return func(ctx context.Context, c *Call) error {
		err := c.Do(ctx)
		if c.Op == OpWatch {
			return err
		}
		return ErrFault
	}
}

// AlterBytes is a record that was damaged, or moved from elsewhere: Load answers
// it with every byte changed, under the version that is stored. Only OpLoad and
// records with content are concerned, here and in the next two.
func AlterBytes() Fault {
	return alter(func(r *tokencache.Record) {
		for i := range r.Sealed {
			r.Sealed[i] ^= 0xff
		}
	})
}

// Truncate is a record that was not stored in full: Load answers with the first
// half of it, at least one byte.
func Truncate() Fault {
	return alter(func(r *tokencache.Record) { r.Sealed = r.Sealed[:(len(r.Sealed)+1)/2] })
}

// AlterVersion is a record under a version that is not its own: Load answers
// with another random version each time.
func AlterVersion() Fault {
	return alter(func(r *tokencache.Record) { r.Version = tokencache.NewVersion() })
}

func alter(change func(*tokencache.Record)) Fault {
	return func(ctx context.Context, c *Call) error {
		err := c.Do(ctx)
		if err == nil && c.Op == OpLoad && !c.Record.Removed() {
			change(c.Record)
		}
		return err
	}
}

// First lets the first n calls meet the fault; the others pass.
func First(n int, fault Fault) Fault {
	var met atomic.Int64
	return choose(func() bool { return met.Add(1) <= int64(n) }, fault)
}

// EveryNth lets every nth call meet the fault, the nth first; the others pass.
// An n below two is every call.
func EveryNth(n int, fault Fault) Fault {
	var met atomic.Int64
	return choose(func() bool { return met.Add(1)%int64(max(n, 1)) == 0 }, fault)
}

// Randomly lets a call meet the fault with the probability p, from 0 to 1. The
// same seed chooses the same calls, as far as they come in the same order.
func Randomly(p float64, seed uint64, fault Fault) Fault {
	var mu sync.Mutex
	source := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // repeatable, and not a secret
	return choose(func() bool {
		mu.Lock()
		defer mu.Unlock()
		return source.Float64() < p
	}, fault)
}

func choose(chosen func() bool, fault Fault) Fault {
	return func(ctx context.Context, c *Call) error {
		if !chosen() {
			return c.Do(ctx)
		}
		return fault(ctx, c)
	}
}
