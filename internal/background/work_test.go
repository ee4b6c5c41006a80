package background_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/internal/background"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := background.NewWork()
		var ended time.Time
		if !w.Go(func(ctx context.Context) {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = time.Now()
		}) {
			t.Fatal("it does not begin")
		}
		synctest.Wait()
		if !ended.IsZero() || w.Life.Err() != nil {
			t.Fatal("it has ended before Close")
		}
		began := time.Now()
		for range 2 {
			if err := w.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := ended.Sub(began); got != time.Second {
				t.Fatalf("Close has waited for work that ended after %v", got)
			}
		}
		if w.Life.Err() == nil {
			t.Error("its life goes on after Close")
		}
		if w.Go(func(context.Context) { t.Error("it begins after Close") }) {
			t.Error("after Close it says that it begins")
		}
	})
}

// Close waits no longer than its context lives, and may be asked to wait again.
func TestCloseDoesNotWaitForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := background.NewWork()
		w.Go(func(context.Context) { time.Sleep(time.Minute) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if err := w.Close(t.Context()); err != nil || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, test := range []struct {
			sleep, want time.Duration
			goesOn      bool
		}{
			{-time.Second, 0, true},
			{0, 0, true},
			{10 * time.Second, 10 * time.Second, true},
			{time.Hour, 50 * time.Second, false},
			{time.Hour, 0, false},
			{0, 0, false},
		} {
			began := time.Now()
			if goesOn := background.Sleep(ctx, test.sleep); goesOn != test.goesOn || time.Since(began) != test.want {
				t.Errorf("Sleep(%v) returned %t after %v, want %t after %v",
					test.sleep, goesOn, time.Since(began), test.goesOn, test.want)
			}
		}
	})
}
