package tokencache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// caller makes the calls to a provider. Each has a deadline of its own, which
// also ends calls of a driver that does not look at its context.
type caller struct {
	timeout time.Duration
	// punctual calls are not left alone at the deadline: nothing but a bug or a
	// busy processor makes them late, and a goroutine for each costs more than
	// some calls.
	punctual bool
	breakers breakers
	deaf     atomic.Int64 // calls that were left alone and still run
	tried    atomic.Int64 // when one more was made than there should be, in nanoseconds since 1970
}

// maxDeaf bounds the calls that go on after their deadline. Beyond it one is made
// every deafRest, or nobody would find out that the provider answers again.
const (
	maxDeaf  = 1024
	deafRest = 10 * time.Second
)

func (c *caller) crowded() bool {
	if c.deaf.Load() < maxDeaf {
		return false
	}
	now, tried := time.Now().UnixNano(), c.tried.Load()
	return now-tried < int64(deafRest) || !c.tried.CompareAndSwap(tried, now)
}

// do makes a call that answers with an error alone.
func (c *caller) do(ctx context.Context, op string, f func(context.Context) error) error {
	_, err := call(ctx, c, op, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// call makes a call under its own deadline and sorts its error: one of the
// contract's, ErrUnavailable, or the end of ctx.
func call[T any](ctx context.Context, c *caller, op string, f func(context.Context) (T, error)) (T, error) {
	return callOr(ctx, c, op, f, nil)
}

// callOr is call for what must be given back if it comes when nobody waits any
// more.
func callOr[T any](
	ctx context.Context, c *caller, op string, f func(context.Context) (T, error), late func(T),
) (answer T, err error) {
	report, refused := c.breakers.of(op).allow()
	if refused == nil && c.crowded() {
		report(errCallerLeft)
		refused = errCallerLeft
	}
	if refused != nil {
		return answer, fmt.Errorf("%w: %s: %w", ErrUnavailable, op, errNotAsked)
	}
	outcome := errCallerLeft // of a call that panics
	defer func() { report(outcome) }()
	own, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if c.punctual {
		answer, err = f(own)
	} else {
		answer, err = bounded(own, c, f, late)
	}
	switch {
	case isAnswer(op, err):
		outcome = err
	case ctx.Err() != nil:
		err = ctx.Err() // the caller's end, not the backend's failure
	default:
		err = unavailable(op, err)
		outcome = err
	}
	return answer, err
}

// errNotAsked is why a call was not made. That is no event: the outage was one.
var errNotAsked = errors.New("it keeps failing, and is not asked for a moment")

// answers are the errors that the contract names for each call. Any other means
// that the backend could not answer, also one that answers another call.
var answers = map[string][]error{
	"load":    {ErrNotFound, ErrTooLarge},
	"save":    {ErrConflict, ErrRemoved, ErrTooLarge},
	"bury":    {ErrConflict, ErrRemoved, ErrTooLarge},
	"restore": {ErrConflict, ErrRemoved, ErrTooLarge},
	"lease":   {ErrBusy},
	"renew":   {ErrConflict},
	"touch":   {ErrConflict, ErrNotFound},
}

// isAnswer tells whether the outcome of a call is one that the contract names.
func isAnswer(op string, err error) bool {
	return err == nil || slices.ContainsFunc(answers[op], func(a error) bool { return errors.Is(err, a) })
}

// guarded makes an error of a panic in what is plugged in, for goroutines that
// nobody called: there it would end the program. The panic's value may be
// anything, so only its type is told.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: a panic of type %T", ErrUnavailable, r)
		}
	}()
	return f()
}

// bounded runs f until ctx ends, and then leaves it alone.
func bounded[T any](ctx context.Context, c *caller, f func(context.Context) (T, error), late func(T)) (T, error) {
	type result struct {
		answer   T
		err      error
		panicked any
	}
	done := make(chan result, 1)
	var left atomic.Bool
	go func() {
		var r result
		defer func() {
			r.panicked = recover()
			done <- r
			if !left.CompareAndSwap(false, true) { // nobody has taken it
				if late != nil && r.err == nil && r.panicked == nil {
					late(r.answer)
				}
				c.deaf.Add(-1) // last: Close waits for it
			}
		}()
		r.answer, r.err = f(ctx)
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		c.deaf.Add(1)
		if left.CompareAndSwap(false, true) {
			return r.answer, ctx.Err()
		}
		c.deaf.Add(-1) // it came at the same moment
		r = <-done
	}
	if r.panicked != nil {
		panic(r.panicked) // in its caller, where it can be recovered
	}
	return r.answer, r.err
}

// drained waits until the calls that were left alone have ended.
func (c *caller) drained(ctx context.Context) {
	for c.deaf.Load() > 0 && ctx.Err() == nil {
		sleep(ctx, 10*time.Millisecond)
	}
}

// patiently repeats what a backend did not answer to, until ctx ends.
func patiently(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		sleep(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return err // and not that there was no time left
		}
	}
}

// ownDeadline reports the end of a context that only its own deadline ends: the
// backend took too long, and nobody cancelled anything.
func ownDeadline(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: no answer in time", ErrUnavailable)
	}
	return err
}

// unavailable wraps an error as ErrUnavailable, nil as nil.
func unavailable(op string, err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, op, err)
}

// sleep waits for half to one and a half times d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d/2 + rand.N(d)) // #nosec G404 -- jitter, not a secret
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
