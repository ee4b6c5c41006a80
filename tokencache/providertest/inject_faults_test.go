package providertest_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// TestHang: every operation waits for its context, and for Clear.
func TestHang(t *testing.T) {
	t.Parallel()
	for _, op := range order {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				call := b.calls()[op]
				b.Set(providertest.Hang())
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
					t.Errorf("got error %v after %v, want the deadline's after 1m", err, time.Since(start))
				}

				time.AfterFunc(time.Hour, func() { b.Clear() })
				start = time.Now()
				if err := call(t.Context()); err != nil || time.Since(start) != time.Hour {
					t.Errorf("cleared after an hour: got error %v after %v", err, time.Since(start))
				}
			})
		})
	}
}

// TestHangThenDown: a call that hangs meets the fault that comes next.
func TestHangThenDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.Set(providertest.Hang())
		time.AfterFunc(time.Second, func() { b.Set(providertest.Down()) })
		if _, err := b.Load(t.Context(), b.name); !errors.Is(err, providertest.ErrFault) {
			t.Errorf("got error %v, want ErrFault", err)
		}
		if got := b.Calls(providertest.OpLoad); got != 1 {
			t.Errorf("counted %d calls, want 1", got)
		}
	})
}

func TestHangDeaf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		most, clear time.Duration // when the fault ends
		want        time.Duration
	}{
		{"bound", time.Minute, time.Hour, time.Minute},
		{"cleared", time.Hour, time.Minute, time.Minute},
		{"no bound", 0, 24 * time.Hour, 24 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.Set(providertest.HangDeaf(tt.most))
				timer := time.AfterFunc(tt.clear, func() { b.Clear() })
				defer timer.Stop()
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := b.Load(ctx, b.name)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != tt.want {
					t.Errorf("got error %v after %v, want the deadline's after %v", err, time.Since(start), tt.want)
				}
			})
		})
	}
}

func TestSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.Set(providertest.Slow(time.Second))
		calls := b.calls()
		for _, op := range order {
			start := time.Now()
			if err := calls[op](t.Context()); err != nil || time.Since(start) != time.Second {
				t.Errorf("%s: got error %v after %v, want none after 1s", op, err, time.Since(start))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := b.Load(ctx, b.name)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Millisecond {
			t.Errorf("got error %v after %v, want the deadline's after 1ms", err, time.Since(start))
		}
	})
}

// pattern tells which of n loads met the fault.
func pattern(t *testing.T, b *bench, n int) (met []bool) {
	t.Helper()
	for range n {
		_, err := b.Load(t.Context(), b.name)
		met = append(met, errors.Is(err, providertest.ErrFault))
	}
	return met
}

func TestFlapping(t *testing.T) {
	t.Parallel()
	const yes, no = true, false
	down := providertest.Down()
	for _, tt := range []struct {
		name  string
		fault providertest.Fault
		want  []bool
	}{
		{"first 2", providertest.First(2, down), []bool{yes, yes, no, no, no}},
		{"first 0", providertest.First(0, down), []bool{no, no}},
		{"every 3rd", providertest.EveryNth(3, down), []bool{no, no, yes, no, no, yes, no}},
		{"every", providertest.EveryNth(1, down), []bool{yes, yes}},
		{"every 0th", providertest.EveryNth(0, down), []bool{yes, yes}},
		{"never", providertest.Randomly(0, 1, down), []bool{no, no, no}},
		{"always", providertest.Randomly(1, 1, down), []bool{yes, yes, yes}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.Set(tt.fault)
			if got := pattern(t, b, len(tt.want)); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRandomly(t *testing.T) {
	t.Parallel()
	const calls = 2000
	patternOf := func(seed uint64) []bool {
		b := newBench(t)
		b.Set(providertest.Randomly(0.3, seed, providertest.Down()))
		return pattern(t, b, calls)
	}
	first := patternOf(7)
	met := 0
	for _, m := range first {
		if m {
			met++
		}
	}
	if met < calls*25/100 || met > calls*35/100 {
		t.Errorf("%d of %d calls failed, want 30%%", met, calls)
	}
	if !reflect.DeepEqual(first, patternOf(7)) {
		t.Error("the same seed chose other calls")
	}
	if reflect.DeepEqual(first, patternOf(8)) {
		t.Error("another seed chose the same calls")
	}
}

// TestLoseReplies: each call fails, and has happened.
func TestLoseReplies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Set(providertest.LoseReplies())
	for op, call := range b.calls() {
		if err := call(t.Context()); op != providertest.OpWatch && !errors.Is(err, providertest.ErrFault) {
			t.Errorf("%s: got error %v, want ErrFault", op, err)
		}
	}
	if got, _ := b.Load(t.Context(), b.name); got.Version != (tokencache.Version{}) || got.Sealed != nil {
		t.Error("Load shows a record whose reply was lost")
	}
	if names, _ := b.Capabilities().Owners.List(t.Context(), b.name.Owner); names != nil {
		t.Error("List shows names whose reply was lost")
	}
	next := tokencache.Record{Sealed: []byte("next"), Version: tokencache.NewVersion()}
	if err := b.Save(t.Context(), b.name, next, tokencache.IfVersion(b.record.Version)); !errors.Is(err, providertest.ErrFault) {
		t.Errorf("Save: got error %v, want ErrFault", err)
	}
	other := tokencache.Name{Partition: "other"}
	if lease, err := b.Capabilities().Leaser.Acquire(t.Context(), other, time.Hour); lease != nil || err == nil {
		t.Errorf("Acquire: got lease %v, error %v", lease, err)
	}
	b.Clear()
	if got, err := b.Load(t.Context(), b.name); err != nil || got.Version != next.Version {
		t.Errorf("Load: version %v, error %v; want what was saved", got.Version, err)
	}
	if _, err := b.Capabilities().Leaser.Acquire(t.Context(), other, time.Hour); !errors.Is(err, tokencache.ErrBusy) {
		t.Errorf("Acquire: got error %v, want ErrBusy", err)
	}
}

// TestGarbage: Load shows something else, and what is stored is untouched.
func TestGarbage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                   string
		fault                  providertest.Fault
		sameBytes, sameVersion bool
		length                 int
	}{
		{"AlterBytes", providertest.AlterBytes(), false, true, 6},
		{"Truncate", providertest.Truncate(), false, true, 3},
		{"AlterVersion", providertest.AlterVersion(), true, false, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.Set(tt.fault)
			calls := b.calls()
			for _, op := range order {
				if err := calls[op](t.Context()); err != nil {
					t.Errorf("%s: %v", op, err)
				}
			}
			got, err := b.Load(t.Context(), b.name)
			if err != nil || len(got.Sealed) != tt.length ||
				bytes.Equal(got.Sealed, b.record.Sealed) != tt.sameBytes || (got.Version == b.record.Version) != tt.sameVersion {
				t.Errorf("Load: version %v, %q, error %v", got.Version, got.Sealed, err)
			}
			if got, err := b.behind.Load(t.Context(), b.name); err != nil || got.Version != b.record.Version ||
				!bytes.Equal(got.Sealed, b.record.Sealed) {
				t.Errorf("what is stored changed: version %v, %q, error %v", got.Version, got.Sealed, err)
			}
			dead := tokencache.Record{Version: tokencache.NewVersion()}
			if err := b.Save(t.Context(), b.name, dead, tokencache.Always()); err != nil {
				t.Fatalf("Save: %v", err)
			}
			if got, err := b.Load(t.Context(), b.name); err != nil || got.Version != dead.Version || !got.Removed() {
				t.Errorf("Load of a tombstone: version %v, %q, error %v", got.Version, got.Sealed, err)
			}
			none := tokencache.Name{Partition: "none"}
			if _, err := b.Load(t.Context(), none); !errors.Is(err, tokencache.ErrNotFound) {
				t.Errorf("Load of nothing: got error %v, want ErrNotFound", err)
			}
		})
	}
}
