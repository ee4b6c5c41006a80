package providertest

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/anishathalye/porcupine"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The size of a history. Few calls overlap under one name, because the time that
// a check takes grows exponentially with their number: a wider history would not
// be checked to its end.
const (
	historyCallers = 1000
	historyRounds  = 2 // a Load and something else, each
	historyNames   = 16
	historyWidth   = 8 // calls at once under one name
)

// history is what happened under one name, whose owner has no other.
type history struct {
	name tokencache.Name
	gate chan struct{}

	mu  sync.Mutex
	ops []porcupine.Operation
	// lost counts the calls whose outcome is unknown.
	lost int
}

// recorder gives every call and return a number of its own, in their order.
// Clocks would not do: in a bubble, all of it happens at one moment.
type recorder struct {
	*env
	ticks     atomic.Int64
	histories [historyNames]*history
}

func newRecorder(e *env) *recorder {
	r := &recorder{env: e}
	for i := range r.histories {
		r.histories[i] = &history{name: newName(), gate: make(chan struct{}, historyWidth)}
	}
	return r
}

// testHistory has a thousand goroutines do everything at once to a few names,
// and asks whether any order of the calls, one after another, explains what
// they answered. A call counts as done somewhere between its begin and its end;
// one whose outcome is unknown, at any time after its begin or never.
func testHistory(e *env) {
	r := newRecorder(e)
	r.run()
	for _, h := range r.histories {
		if 2*h.lost > len(h.ops) {
			e.broken(ruleConcurrent, "%d of %d calls beside others failed", h.lost, len(h.ops))
		}
		e.explain(h.ops)
	}
}

func (r *recorder) run() {
	r.together(historyCallers, func(i int, p tokencache.Provider) {
		h := r.histories[i/2%historyNames]            // i%2 is the machine
		choice := rand.New(rand.NewPCG(uint64(i), 0)) //nolint:gosec // repeatable, and not a secret
		var older tokencache.Version
		for range historyRounds {
			seen := r.load(h, p)
			r.act(h, p, choice.IntN(100), seen, older)
			older = seen.version
		}
	})
}

// act does one of the things that callers do who have seen a record, most often
// to replace it. Saves without a condition are rare, because it is those that a
// check has to guess about.
func (r *recorder) act(h *history, p tokencache.Provider, choice int, seen snapshot, older tokencache.Version) {
	replace := tokencache.IfVersion(seen.version)
	if seen.version == (tokencache.Version{}) {
		replace = tokencache.Condition{}
	}
	caps := p.Capabilities()
	switch {
	case choice < 3:
		r.save(h, p, record(""), seen, tokencache.Always())
	case choice < 6:
		r.save(h, p, tombstone(), seen, tokencache.Always())
	case choice < 12:
		r.save(h, p, tombstone(), seen, replace)
	case choice < 18:
		r.save(h, p, record(""), seen, tokencache.Condition{})
	case choice < 28:
		r.save(h, p, record(""), seen, tokencache.IfVersion(older))
	case choice < 33 && caps.Owners != nil:
		q := request{op: OpSetMark, version: tokencache.NewVersion()}
		r.record(h, q, func(ctx context.Context) (snapshot, error) {
			return snapshot{}, caps.Owners.SetMark(ctx, h.name.Owner, q.version, later())
		})
	case choice < 43 && caps.Toucher != nil:
		q := request{op: OpTouch, version: seen.version}
		r.record(h, q, func(ctx context.Context) (snapshot, error) {
			return snapshot{}, caps.Toucher.Touch(ctx, h.name, q.version, later())
		})
	default:
		r.save(h, p, record(""), seen, replace)
	}
}

func (r *recorder) load(h *history, p tokencache.Provider) snapshot {
	return r.record(h, request{op: OpLoad}, func(ctx context.Context) (snapshot, error) {
		got, err := p.Load(ctx, h.name)
		if err == nil && !got.Removed() && string(got.Sealed) != got.Version.String() {
			r.breach(ruleSave, "Load beside others shows a mixture: version %v with %s", got.Version, describe(got.Sealed))
		}
		return snapshot{version: got.Version, removed: err == nil && got.Removed(), mark: got.Mark}, err
	})
}

// save saves a record whose content is its version, so that a mixture shows.
func (r *recorder) save(h *history, p tokencache.Provider, next tokencache.Record, seen snapshot, cond tokencache.Condition) {
	q := request{op: OpSave, version: next.Version, removed: next.Sealed == nil, mark: seen.mark, cond: cond}
	if !q.removed {
		next.Sealed = []byte(next.Version.String())
	}
	r.record(h, q, func(ctx context.Context) (snapshot, error) {
		return snapshot{}, p.Save(ctx, h.name, marked(next, q.mark), cond)
	})
}

// record makes a call and adds it to the history.
func (r *recorder) record(h *history, q request, call func(context.Context) (snapshot, error)) snapshot {
	h.gate <- struct{}{}
	begin := r.ticks.Add(1)
	seen, err := call(r.ctx)
	end := r.ticks.Add(1)
	<-h.gate

	a := reply{outcome: outcomeOf(err), seen: seen}
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.outcome == unknown {
		h.lost++
		if q.op == OpLoad || q.op == OpTouch {
			return seen // changed nothing, and told nothing
		}
		end = math.MaxInt64
	}
	h.ops = append(h.ops, porcupine.Operation{Input: q, Call: begin, Output: a, Return: end})
	return seen
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return done
	case errors.Is(err, tokencache.ErrNotFound):
		return notFound
	case errors.Is(err, tokencache.ErrConflict):
		return conflict
	case errors.Is(err, tokencache.ErrRemoved):
		return refused
	default:
		return unknown
	}
}
