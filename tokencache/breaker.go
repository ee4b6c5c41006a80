package tokencache

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sony/gobreaker/v2"
)

// breakers are one for what reads and one for what writes: a store that is full or
// read-only still answers loads.
type breakers struct{ reads, writes *breaker }

// newBreakers has changed told when the first of them turns down, and when both
// are up again.
func newBreakers(changed func(down bool)) breakers {
	var mu sync.Mutex
	var down [2]bool
	var told bool
	of := func(i int) *breaker {
		return newBreaker(func(now bool) {
			mu.Lock()
			down[i] = now
			either := down[0] || down[1]
			news := either != told
			told = either
			mu.Unlock()
			if news {
				changed(either)
			}
		})
	}
	return breakers{reads: of(0), writes: of(1)}
}

// of returns the breaker of a call, nil if nothing must keep it from being made.
func (b *breakers) of(op string) *breaker {
	switch op {
	case "load", "list", "names":
		return b.reads
	case "renew", "touch":
		// Nobody waits for them. And whoever loses the lease meanwhile loses more: a
		// provider that only cannot save must not cost it.
		return nil
	case "bury", "mark":
		// Somebody signs out, for which a full store has room.
		return nil
	case "restore":
		// The store has answered just now, and other machines may not wait for long
		// for what it has lost.
		return nil
	}
	return b.writes
}

// breaker spares requests the wait for a provider that keeps failing: after
// several failures in a row nothing is asked for a moment, and then one call finds
// out. A nil breaker lets everything pass.
type breaker struct {
	two     *gobreaker.TwoStepCircuitBreaker[struct{}]
	changed func(down bool)
	turn    atomic.Int32 // of what changed has not been told
}

const (
	turnedDown = 1
	turnedUp   = 2
)

func newBreaker(changed func(down bool)) *breaker {
	b := &breaker{changed: changed}
	b.two = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:     breakerRest,
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerFailures },
		// Only what could not be answered is a failure: a miss, a conflict and a
		// refusal are answers, and whoever left says nothing.
		IsSuccessful: func(err error) bool { return !errors.Is(err, ErrUnavailable) },
		IsExcluded:   func(err error) bool { return errors.Is(err, errCallerLeft) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch {
			case to == gobreaker.StateClosed:
				b.turn.Store(turnedUp)
			case from == gobreaker.StateClosed:
				b.turn.Store(turnedDown)
			}
		},
	})
	return b
}

// errCallerLeft marks a call whose caller did not wait for its answer.
var errCallerLeft = errors.New("the caller has left")

// allow tells whether to ask. The function returned takes what became of the call.
func (b *breaker) allow() (report func(error), refused error) {
	if b == nil {
		return func(error) {}, nil
	}
	done, refused := b.two.Allow()
	if refused != nil {
		return nil, refused
	}
	return func(err error) {
		done(err)
		// Not in OnStateChange, which runs under a lock that every call takes.
		if turn := b.turn.Swap(0); turn != 0 {
			b.changed(turn == turnedDown)
		}
	}, nil
}
