package tokencache

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// goroutine tells which goroutine runs, by the first line of its stack.
func goroutine() string {
	stack := make([]byte, 64)
	line, _, _ := bytes.Cut(stack[:runtime.Stack(stack, false)], []byte("["))
	return string(line)
}

// A load runs in its caller only where it ends by itself.
func TestLoadsRunHere(t *testing.T) {
	t.Parallel()
	for _, here := range []bool{true, false} {
		l, ran := loads{here: here}, ""
		_, err := l.do(t.Context(), "name", func() (loaded, error) {
			ran = goroutine()
			return loaded{}, nil
		})
		if err != nil || (ran == goroutine()) != here {
			t.Errorf("here %v: ran in %q, called from %q, error %v", here, ran, goroutine(), err)
		}
	}
}

// Whoever comes while a load runs gets its outcome, or leaves when they like; who
// comes later loads again.
func TestLoadsAreShared(t *testing.T) {
	t.Parallel()
	for _, here := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l, failed, times := loads{here: here}, errors.New("failed"), 0
			load := func() (loaded, error) {
				times++
				time.Sleep(time.Second)
				return loaded{epoch: 7}, failed
			}
			for range 5 {
				go func() {
					if got, err := l.do(t.Context(), "name", load); got.epoch != 7 || !errors.Is(err, failed) {
						t.Errorf("here %v: %+v, error %v", here, got, err)
					}
				}()
			}
			synctest.Wait()
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := l.do(ctx, "name", load)
			if left := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || left > 100*time.Millisecond {
				t.Errorf("here %v: left after %v, error %v", here, left, err)
			}
			if _, err := l.do(t.Context(), "other", load); !errors.Is(err, failed) || times != 2 {
				t.Errorf("here %v: loads of another name: %d, error %v", here, times-1, err)
			}
			time.Sleep(2 * time.Second)
			if _, _ = l.do(t.Context(), "name", load); times != 3 || len(l.runs) != 0 {
				t.Errorf("here %v: %d loads, %d left behind", here, times, len(l.runs))
			}
		})
	}
}
