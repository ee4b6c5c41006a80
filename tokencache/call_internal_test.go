package tokencache

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Waits are spread, so that those who failed together do not ask together, and
// end with the context.
func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const d = 100 * time.Millisecond
		shortest, longest := d, d
		for range 200 {
			began := time.Now()
			sleep(t.Context(), d)
			shortest, longest = min(shortest, time.Since(began)), max(longest, time.Since(began))
		}
		if shortest < d/2 || shortest > d*3/4 || longest < d*5/4 || longest > d*3/2 {
			t.Errorf("it waited for %v to %v, want about 50 to 150 ms", shortest, longest)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began := time.Now()
		if sleep(ctx, time.Hour); time.Since(began) != time.Millisecond {
			t.Errorf("it waited for %v after the context had ended", time.Since(began)-time.Millisecond)
		}
	})
}

// What comes when nobody waits any more is given back, if anything came, and
// Close waits for that.
func TestLateAnswers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer func() (int, error)
		given  int
	}{
		"an answer": {func() (int, error) { return 1, nil }, 1},
		"an error":  {func() (int, error) { return 1, errors.New("refused") }, 0},
		"a panic":   {func() (int, error) { panic("a bug") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, given := &caller{timeout: time.Second}, 0
				_, err := callOr(t.Context(), c, "load", func(context.Context) (int, error) {
					time.Sleep(2 * time.Second)
					return tt.answer()
				}, func(int) {
					time.Sleep(time.Second)
					given++
				})
				if !errors.Is(err, ErrUnavailable) {
					t.Errorf("got %v, want ErrUnavailable", err)
				}
				ended, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				began := time.Now()
				if c.drained(ended); time.Since(began) > time.Second {
					t.Errorf("it waited for %v, and its context had ended", time.Since(began))
				}
				if c.drained(t.Context()); given != tt.given {
					t.Errorf("%d were given back, want %d", given, tt.given)
				}
			})
		})
	}
}

// lateEnd is a context that ends when everybody else has done what there is to do.
type lateEnd struct{ context.Context }

func (lateEnd) Done() <-chan struct{} {
	synctest.Wait()
	ended := make(chan struct{})
	close(ended)
	return ended
}
func (lateEnd) Err() error { return context.DeadlineExceeded }

// An answer that comes at the very moment at which its caller leaves is taken,
// and not given back.
func TestAnswersAtTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &caller{}
		for range 20 { // which of the two the caller sees first is left to chance
			answer, err := bounded(lateEnd{t.Context()}, c, func(context.Context) (int, error) { return 1, nil },
				func(int) { t.Error("it was given back") })
			if answer != 1 || err != nil {
				t.Errorf("got %d and %v", answer, err)
			}
		}
		if n := c.deaf.Load(); n != 0 {
			t.Errorf("%d calls are taken to be still running", n)
		}
	})
}

// Only a failure in a row of them counts, and what says nothing of the provider
// neither breaks the row nor ends an outage.
func TestBreakerCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []bool
		c := &caller{timeout: time.Second, punctual: true, breakers: newBreakers(func(down bool) { told = append(told, down) })}
		ask := func(answer error) error {
			return c.do(t.Context(), "save", func(context.Context) error { return answer })
		}
		askAndLeave := func() {
			ctx, leave := context.WithCancel(t.Context())
			_ = c.do(ctx, "save", func(context.Context) error { leave(); return ctx.Err() })
		}
		askAndPanic := func() {
			defer func() { _ = recover() }()
			_ = c.do(t.Context(), "save", func(context.Context) error { panic("a bug") })
		}
		failure := errors.New("refused")
		for _, answer := range []error{nil, ErrConflict, ErrRemoved, ErrTooLarge} {
			for range breakerFailures - 1 {
				_ = ask(failure)
			}
			if err := ask(answer); !errors.Is(err, answer) || errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v, want %v", err, answer)
			}
		}
		for range breakerFailures - 1 {
			_ = ask(failure)
		}
		askAndLeave()
		askAndPanic()
		if _ = ask(failure); len(told) != 1 || !told[0] {
			t.Fatalf("told %v, want that it is down", told)
		}
		for _, again := range []func(){askAndLeave, askAndPanic, func() { _ = ask(failure) }} {
			time.Sleep(breakerRest + time.Millisecond)
			again()
		}
		if len(told) != 1 {
			t.Errorf("told %v, want nothing more while it is down", told)
		}
		time.Sleep(breakerRest + time.Millisecond)
		_, _ = ask(nil), ask(nil)
		if len(told) != 2 || told[1] {
			t.Errorf("told %v, want that it answers again", told)
		}
	})
}

// Each error is an answer to the calls that the contract names it for, and to no
// other.
func TestAnswers(t *testing.T) {
	t.Parallel()
	errs := []error{ErrNotFound, ErrTooLarge, ErrConflict, ErrRemoved, ErrBusy, ErrNoTokens, ErrUnavailable}
	for op, want := range map[string][]error{
		"load":    {ErrNotFound, ErrTooLarge},
		"save":    {ErrConflict, ErrRemoved, ErrTooLarge},
		"lease":   {ErrBusy},
		"renew":   {ErrConflict},
		"release": nil,
		"touch":   {ErrConflict, ErrNotFound},
		"mark":    nil,
		"list":    nil,
	} {
		for _, err := range errs {
			named := false
			for _, w := range want {
				named = named || errors.Is(err, w)
			}
			if isAnswer(op, err) != named {
				t.Errorf("%s: %v is an answer: %v, want %v", op, err, !named, named)
			}
		}
	}
}

// A store that takes no writes is asked for reads and removals all the same, and
// the outage of both is one.
func TestBreakersApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []bool
		c := &caller{timeout: time.Second, punctual: true, breakers: newBreakers(func(down bool) { told = append(told, down) })}
		down := errors.New("full")
		ask := func(op string, answer error) error {
			return c.do(t.Context(), op, func(context.Context) error { return answer })
		}
		for range 2 * breakerFailures {
			_ = ask("save", down)
		}
		if err := ask("save", nil); !errors.Is(err, errNotAsked) {
			t.Errorf("a save is asked for while all fail: %v", err)
		}
		for _, op := range []string{"load", "list", "bury", "mark", "restore", "renew", "touch"} {
			if err := ask(op, nil); err != nil {
				t.Errorf("%s, while saves fail: %v", op, err)
			}
		}
		for range 2 * breakerFailures {
			_ = ask("load", down)
		}
		if len(told) != 1 || !told[0] {
			t.Errorf("told %v of one outage", told)
		}
		time.Sleep(2 * breakerRest)
		if err := ask("load", nil); err != nil || len(told) != 1 {
			t.Errorf("told %v while saves still fail; load: %v", told, err)
		}
		if err := ask("save", nil); err != nil || len(told) != 2 || told[1] {
			t.Errorf("told %v after both have answered; save: %v", told, err)
		}
	})
}
