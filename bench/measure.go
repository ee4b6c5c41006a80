package main

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// batch does n operations, for one user after the other from the first on. The
// loop is inside, so that a call for each operation is not measured along with
// it.
type batch func(first, n int) error

// side is what is compared, by a name for the output.
type side struct {
	name string
	do   batch
}

// goroutines is how many a comparison runs on, unless it says otherwise.
const goroutines = 16

// roundTime is how long one side's part of a round takes: long against a switch
// of goroutines, short against what else happens on the machine.
const roundTime = 20 * time.Millisecond

// comparison is the median of two sides, and the median of the rounds' ratios.
type comparison struct {
	base, other time.Duration // per operation
	ratio       float64       // other to base
}

// ratio compares two sides, each on all goroutines, and holds their ratio to a
// bar.
func ratio(what string, b bar, rounds int, base, other side) (figure, error) {
	return ratioOn(goroutines, what, b, rounds, base, other)
}

// ratioOn is ratio on so many goroutines. Noise may spoil a comparison, so one
// that misses is repeated once, with three times the rounds, and its detail says
// so.
func ratioOn(goroutines int, what string, b bar, rounds int, base, other side) (figure, error) {
	c, err := takeTurns(rounds, goroutines, base.do, other.do)
	again := ""
	if err == nil && !b.met(c.ratio) {
		again = fmt.Sprintf("; at first %s", number(c.ratio))
		c, err = takeTurns(3*rounds, goroutines, base.do, other.do)
	}
	return figure{
		what: what, value: c.ratio, unit: "×", bar: b,
		detail: fmt.Sprintf("%s %v, %s %v%s", other.name, c.other, base.name, c.base, again),
	}, err
}

// takeTurns lets two sides take turns, each on so many goroutines.
func takeTurns(rounds, goroutines int, base, other batch) (comparison, error) {
	sides := [2]struct {
		do  batch
		n   int
		per []float64 // ns per operation, by round
	}{{do: base}, {do: other}}
	for i := range sides {
		n, err := calibrate(goroutines, sides[i].do)
		if err != nil {
			return comparison{}, err
		}
		sides[i].n = n
	}
	ratios := make([]float64, rounds)
	for r := range rounds {
		for turn := range sides {
			s := &sides[(r+turn)%2] // who goes first changes, too
			took, err := spread(goroutines, s.n, s.do)
			if err != nil {
				return comparison{}, err
			}
			s.per = append(s.per, float64(took.Nanoseconds())/float64(s.n))
		}
		ratios[r] = sides[1].per[r] / sides[0].per[r]
	}
	return comparison{
		base:  nanoseconds(median(sides[0].per)),
		other: nanoseconds(median(sides[1].per)),
		ratio: median(ratios),
	}, nil
}

// pause is how far apart the operations of a paced comparison are.
const pause = time.Millisecond

// paced compares single operations with a pause before each, as requests come to
// a server that is not at its limit: in a loop without pauses nobody ever sleeps,
// here and on the server, and waking up costs nothing. Its figure is the ratio of
// the medians, without a bar.
func paced(what string, rounds int, base, other side) (figure, error) {
	sides, per := [2]side{base, other}, [2][]float64{}
	for r := range 10 * rounds {
		for turn := range sides {
			i := (r + turn) % 2 // who goes first changes
			time.Sleep(pause)
			began := time.Now()
			if err := sides[i].do(r, 1); err != nil {
				return figure{}, err
			}
			per[i] = append(per[i], float64(time.Since(began).Nanoseconds()))
		}
	}
	b, o := median(per[0]), median(per[1])
	return figure{
		what: what, value: o / b, unit: "×",
		detail: fmt.Sprintf("%s %v, %s %v", other.name, nanoseconds(o), base.name, nanoseconds(b)),
	}, nil
}

// cost is the median time of one operation on one goroutine.
func cost(rounds int, do batch) (time.Duration, error) {
	c, err := takeTurns(rounds, 1, do, do)
	return c.base, err
}

// calibrate finds how many operations take roundTime. It warms the side up.
func calibrate(goroutines int, do batch) (int, error) {
	for n := goroutines; ; n *= 2 {
		took, err := spread(goroutines, n, do)
		if err != nil {
			return 0, err
		}
		if took >= roundTime/2 {
			scaled := int(float64(n) * float64(roundTime) / float64(took))
			return max(scaled/goroutines, 1) * goroutines, nil
		}
	}
}

// spread does n operations on so many goroutines, and returns how long it took.
func spread(goroutines, n int, do batch) (time.Duration, error) {
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	began := time.Now()
	for g := range goroutines {
		wg.Go(func() { errs[g] = do(g*61, n/goroutines) }) // not all at the same user
	}
	wg.Wait()
	took := time.Since(began)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return took, nil
}

// allocations is how many an operation makes, on average and rounded down, after
// the first.
func allocations(do batch) (float64, error) {
	var failed error
	got := testing.AllocsPerRun(1000, func() {
		if err := do(0, 1); err != nil {
			failed = err
		}
	})
	return got, failed
}

// heap is how many bytes are reachable.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the first may only have finished what was under way
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

func nanoseconds(ns float64) time.Duration {
	d := time.Duration(ns)
	switch {
	case d > 10*time.Millisecond:
		return d.Round(100 * time.Microsecond)
	case d > 10*time.Microsecond:
		return d.Round(100 * time.Nanosecond)
	}
	return d
}
