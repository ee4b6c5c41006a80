package providertest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// watched is one Watch, in a bubble.
type watched struct {
	told []tokencache.Change
	err  error
	done bool
	stop context.CancelFunc
}

// newWatched starts a Watch and lets it get as far as it gets.
func (b *bench) newWatched(t *testing.T) *watched {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	w := &watched{stop: stop}
	go func() {
		w.err = b.Capabilities().Watcher.Watch(ctx, func(c tokencache.Change) { w.told = append(w.told, c) })
		w.done = true
	}()
	synctest.Wait()
	return w
}

// save stores something behind the faults, as another machine does.
func (b *bench) saveElsewhere(t *testing.T) {
	t.Helper()
	r := tokencache.Record{Sealed: []byte("elsewhere"), Version: tokencache.NewVersion()}
	if err := b.behind.Save(t.Context(), b.name, r, tokencache.Always()); err != nil {
		t.Fatalf("Save: %v", err)
	}
	synctest.Wait()
}

func (w *watched) want(t *testing.T, when string, told int, done bool, err error) {
	t.Helper()
	if len(w.told) != told || w.done != done || !errors.Is(w.err, err) {
		t.Errorf("%s: told %d changes, returned %v, error %v; want %d, %v, %v", when, len(w.told), w.done, w.err, told, done, err)
	}
	if told > 0 && !w.told[0].Missed {
		t.Errorf("%s: the first change is not Missed", when)
	}
}

// TestWatchOutage: a Watch that runs ends when the backend goes down; a new one
// fails; and one after the outage begins with Missed.
func TestWatchOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		w := b.newWatched(t)
		b.saveElsewhere(t)
		w.want(t, "before", 2, false, nil)

		b.Set(providertest.Down())
		synctest.Wait()
		w.want(t, "down", 2, true, providertest.ErrFault)
		b.newWatched(t).want(t, "new one while down", 0, true, providertest.ErrFault)
		b.saveElsewhere(t)

		b.Clear()
		b.saveElsewhere(t)
		w.want(t, "the old one, after", 2, true, providertest.ErrFault)
		again := b.newWatched(t)
		b.saveElsewhere(t)
		again.want(t, "after", 2, false, nil)
		again.stop()
		synctest.Wait()
		again.want(t, "stopped", 2, true, context.Canceled)
		if got := b.Calls(providertest.OpWatch); got != 3 {
			t.Errorf("counted %d calls, want 3", got)
		}
	})
}

// TestWatchHang: a connection that hangs tells nothing and does not end, until
// it is found to be broken.
func TestWatchHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		w, stopped := b.newWatched(t), b.newWatched(t)
		b.Set(providertest.Hang(), providertest.OpWatch)
		begun := b.newWatched(t)
		b.saveElsewhere(t)
		w.want(t, "hanging", 1, false, nil)
		begun.want(t, "begun while hanging", 0, false, nil)
		stopped.stop()
		synctest.Wait()
		stopped.want(t, "stopped while hanging", 1, true, context.Canceled)

		b.Clear()
		synctest.Wait()
		w.want(t, "after", 1, true, providertest.ErrFault)
		begun.want(t, "begun while hanging, after", 1, false, nil)
		b.saveElsewhere(t)
		begun.want(t, "begun while hanging, after a change", 2, false, nil)
	})
}

// TestWatchOther: faults of other operations leave a Watch alone, and so does
// Clear where there is none.
func TestWatchOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		w := b.newWatched(t)
		b.Set(providertest.Down(), providertest.OpLoad, providertest.OpSave)
		b.Clear()
		b.saveElsewhere(t)
		w.want(t, "after", 2, false, nil)
	})
}
