package providertest

import (
	"bytes"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func concurrencyTests() []testCase {
	return []testCase{
		{"Counter", testCounter},
		{"CreateRace", testCreateRace},
		{"UpdateRace", testUpdateRace},
		{"RemovalRace", testRemovalRace},
		{"AllOrNothing", testAllOrNothing},
		{"ManyNames", testManyNames},
		{"History", testHistory},
	}
}

// together runs n goroutines at once, half of them on the peer, and waits.
func (e *env) together(n int, work func(i int, p tokencache.Provider)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		p := e.p
		if i%2 == 1 {
			p = e.peer
		}
		wg.Go(func() {
			<-start
			work(i, p)
		})
	}
	close(start)
	wg.Wait()
}

// breathe lets others go on, where all that a goroutine does is repeat itself: a
// provider that waits for anything in a bubble waits until everyone pauses.
func breathe() { time.Sleep(time.Microsecond) }

// testCounter counts by reading, adding one and writing if nothing changed: a
// lost update is a number too low.
func testCounter(e *env) {
	const writers, each = 8, 10
	n := e.create(record("0"))
	increment := func(p tokencache.Provider) (bool, error) {
		got, err := p.Load(e.ctx, n)
		if err != nil {
			return false, err
		}
		count, err := strconv.Atoi(string(got.Sealed))
		if err != nil {
			return false, err
		}
		err = p.Save(e.ctx, n, record(strconv.Itoa(count+1)), tokencache.IfVersion(got.Version))
		if errors.Is(err, tokencache.ErrConflict) {
			return false, nil
		}
		return err == nil, err
	}
	e.together(writers, func(_ int, p tokencache.Provider) {
		for done, refused := 0, 0; done < each; {
			ok, err := increment(p)
			if err != nil {
				e.breach(ruleConcurrent, "reading and writing: error %v", err)
				return
			}
			if ok {
				done++
				continue
			}
			// Each refusal is owed to a write of another that came between.
			if refused++; refused > writers*each {
				e.breach(ruleConflict, "%d conflicts with %d writes of all", refused, writers*each)
				return
			}
		}
	})
	got, err := e.p.Load(e.ctx, n)
	e.want(ruleReadYourWrites, err, nil, "Load")
	if want := strconv.Itoa(writers * each); string(got.Sealed) != want {
		e.broken(ruleConflict, "%d writers counted %s, want %s: updates were lost", writers, got.Sealed, want)
	}
}

// race has many savers meet one condition, and returns what they tried to
// store. Exactly one must win, and be what is stored.
func (e *env) race(rule string, n tokencache.Name, cond tokencache.Condition) {
	e.Helper()
	const savers = 24
	var tried [savers]tokencache.Record
	var errs [savers]error
	for i := range tried {
		tried[i] = record("saver " + strconv.Itoa(i))
	}
	e.together(savers, func(i int, p tokencache.Provider) {
		errs[i] = p.Save(e.ctx, n, tried[i], cond)
	})
	var winner *tokencache.Record
	for i, err := range errs {
		switch {
		case err == nil && winner != nil:
			e.broken(rule, "two savers both won")
		case err == nil:
			winner = &tried[i]
		default:
			e.want(rule, err, tokencache.ErrConflict, "Save that lost the race")
		}
	}
	if winner == nil {
		e.broken(rule, "of %d savers none won", savers)
		return
	}
	e.wantStored(rule, e.peer, n, *winner)
}

func testCreateRace(e *env) {
	for range 5 {
		e.race(ruleIfAbsent, newName(), tokencache.Condition{})
	}
}

func testUpdateRace(e *env) {
	for _, r := range []tokencache.Record{record("before"), tombstone(), record("before")} {
		n := e.create(r)
		e.race(ruleConflict, n, tokencache.IfVersion(r.Version))
	}
}

// testRemovalRace removes a partition while others write it. Whatever the
// order, the last word is the removal's.
func testRemovalRace(e *env) {
	for range 5 {
		n, dead := e.create(record("0")), tombstone()
		e.together(9, func(i int, p tokencache.Provider) {
			if i == 4 {
				if err := p.Save(e.ctx, n, dead, tokencache.Always()); err != nil {
					e.breach(ruleAlways, "removal during writes: error %v", err)
				}
				return
			}
			for range 1000 {
				got, err := p.Load(e.ctx, n)
				if err != nil {
					e.breach(ruleLoadRemoved, "Load during a removal: error %v", err)
					return
				}
				if got.Removed() {
					return
				}
				err = p.Save(e.ctx, n, record("writer "+strconv.Itoa(i)), tokencache.IfVersion(got.Version))
				if err != nil && !errors.Is(err, tokencache.ErrConflict) {
					e.breach(ruleConflict, "Save during a removal: error %v", err)
					return
				}
			}
		})
		e.wantStored(ruleConflict, e.p, n, dead)
	}
}

// testAllOrNothing reads while two values take turns. Each is one byte repeated
// under a version of that byte, so that a mixture shows.
func testAllOrNothing(e *env) {
	const size, rounds = 32 << 10, 60
	value := func(b byte) tokencache.Record {
		r := tokencache.Record{Sealed: bytes.Repeat([]byte{b}, size)}
		for i := range r.Version {
			r.Version[i] = b
		}
		return r
	}
	n := e.create(value('a'))
	var done atomic.Bool
	e.together(4, func(i int, p tokencache.Provider) {
		if i == 0 {
			defer done.Store(true)
			for round := range rounds {
				if err := p.Save(e.ctx, n, value('a'+byte(round%2)), tokencache.Always()); err != nil {
					e.breach(ruleAlways, "Save during reads: error %v", err)
					return
				}
			}
			return
		}
		for reads := 1; !done.Load(); reads++ {
			if reads%16 == 0 {
				breathe()
			}
			got, err := p.Load(e.ctx, n)
			if err != nil {
				e.breach(ruleSave, "Load during writes: error %v", err)
				return
			}
			if want := value(got.Version[0]); got.Version != want.Version || !bytes.Equal(got.Sealed, want.Sealed) {
				e.breach(ruleSave, "Load shows a mixture: version %v with %s", got.Version, describe(got.Sealed))
				return
			}
		}
	})
}

// testManyNames writes different names at once, for locks that are shared by
// names and for connections that run out.
func testManyNames(e *env) {
	e.together(100, func(i int, p tokencache.Provider) {
		n, r := newName(), record("content "+strconv.Itoa(i))
		if err := p.Save(e.ctx, n, r, tokencache.Condition{}); err != nil {
			e.breach(ruleConcurrent, "Save beside others: error %v", err)
			return
		}
		got, err := p.Load(e.ctx, n)
		if err != nil || got.Version != r.Version || !bytes.Equal(got.Sealed, r.Sealed) {
			e.breach(ruleReadYourWrites, "Load beside others: %s, error %v", describe(got.Sealed), err)
		}
	})
}
