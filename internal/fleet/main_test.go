package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	// childMode makes the test binary one of the processes.
	childMode = "COATCHECK_FLEET_CHILD"
	// stressMode asks for more of everything.
	stressMode = "COATCHECK_STRESS"
)

const (
	// leaseLife is how long the lease of a process that was killed keeps others
	// waiting, as the README promises.
	leaseLife = 10 * time.Second
	// slack is what a busy machine with two processors may add to a bound.
	slack = 5 * time.Second
)

// patience is when a test gives up on a process.
var patience = time.Duration(times(2, 60)) * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(childMode) != "" {
		os.Exit(childMain())
	}
	goleak.VerifyTestMain(m)
}

func stress() bool { return os.Getenv(stressMode) != "" }

// times is the first number, or the second under stress.
func times(usual, stressed int) int {
	if stress() {
		return stressed
	}
	return usual
}

// check ends the test at an error.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually repeats f until it returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// together runs f for each of n at once and waits.
func together(n int, f func(i int)) {
	done := make(chan struct{})
	for i := range n {
		go func() {
			defer func() { done <- struct{}{} }()
			f(i)
		}()
	}
	for range n {
		<-done
	}
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("%T does not encode", v)) // the tests' own types do
	}
	return b
}

// background is for what must outlive a test's context.
func background() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
