package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{2}, 2}, {[]float64{9, 1, 2}, 2}, {[]float64{1, 9, 2, 4}, 3}} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.values, got, tt.want)
		}
	}
}

// sleeper is a side of which each operation takes so long.
func sleeper(d time.Duration) batch {
	return func(_, n int) error {
		time.Sleep(time.Duration(n) * d)
		return nil
	}
}

func TestRatio(t *testing.T) {
	t.Parallel()
	f, err := ratio("sleep", atMost(4), 3, side{"short", sleeper(time.Millisecond)}, side{"long", sleeper(2 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	if f.value < 1.2 || f.value > 4 || f.verdict() != "ok" || strings.Contains(f.detail, "at first") {
		t.Errorf("got %+v, want about 2, at once", f)
	}
	f, err = ratio("sleep", atLeast(100), 1, side{"short", sleeper(time.Millisecond)}, side{"long", sleeper(time.Millisecond)})
	if err != nil || f.verdict() != "MISSED" || !strings.Contains(f.detail, "at first") {
		t.Errorf("got %+v and error %v, want a second try that the detail tells of", f, err)
	}
}

func TestPaced(t *testing.T) {
	t.Parallel()
	f, err := paced("sleep", 2, side{"short", sleeper(time.Millisecond)}, side{"long", sleeper(20 * time.Millisecond)})
	if err != nil || f.value < 1.5 || f.verdict() != "" {
		t.Errorf("got %+v and error %v, want some 20 and no bar", f, err)
	}
	if _, err := paced("", 1, side{"", sleeper(0)}, side{"", func(int, int) error { return errMiss }}); !errors.Is(err, errMiss) {
		t.Errorf("got error %v, want %v", err, errMiss)
	}
}

func TestErrorsEndAComparison(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	failing := func(int, int) error {
		if calls.Add(1) > 40 {
			return errMiss
		}
		time.Sleep(roundTime)
		return nil
	}
	if _, err := ratio("", bar{}, 10, side{"", sleeper(time.Millisecond)}, side{"", failing}); !errors.Is(err, errMiss) {
		t.Errorf("got error %v, want %v", err, errMiss)
	}
}

var sink []byte

func TestAllocations(t *testing.T) { // not in parallel, which testing does not allow
	got, err := allocations(func(int, int) error { sink = make([]byte, 100); return nil })
	if err != nil || got != 1 {
		t.Errorf("got %v and error %v, want 1", got, err)
	}
	if _, err := allocations(func(int, int) error { return errMiss }); !errors.Is(err, errMiss) {
		t.Errorf("got error %v, want %v", err, errMiss)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	all := []suite{
		{"good", func(int) ([]figure, error) { return []figure{{value: 1, bar: atMost(1)}}, nil }},
		{"bad", func(int) ([]figure, error) { return []figure{{value: 2, bar: atMost(1)}}, nil }},
		{"absent", func(int) ([]figure, error) { return nil, fmt.Errorf("start: %w", exec.ErrNotFound) }},
		{"broken", func(int) ([]figure, error) { return nil, errMiss }},
	}
	for _, tt := range []struct {
		suites  []suite
		only    string
		failed  bool
		failure string
		output  string
	}{
		{all[:3], "", false, "1 missed; not measured: absent: install redis-server and PostgreSQL", "absent: skipped"},
		{all[:2], "", false, "1 missed", "1 missed"},
		{all, "good", false, "", "0 missed"},
		{all, "absent", false, "not measured: absent: install redis-server and PostgreSQL", "0 missed, 1 skipped"},
		{all, "", true, "", ""},
		{all, "other", true, "", ""},
	} {
		var out strings.Builder
		o, err := run(&out, tt.suites, tt.only, 1)
		if (err != nil) != tt.failed || err == nil && o.failure() != tt.failure || !strings.Contains(out.String(), tt.output) {
			t.Errorf("%d suites, only %q: failure %q, error %v, output %q", len(tt.suites), tt.only, o.failure(), err, out.String())
		}
	}
}
