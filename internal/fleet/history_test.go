package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// historyArgs have a process call its provider at once from many goroutines.
type historyArgs struct {
	Names      []tokencache.Name
	Goroutines int
	Rounds     int // of each: a load, and something else
	Seed       uint64
}

// event is one call of a process. Begin and End are by ticks.
type event struct {
	Name       int
	In         input
	Out        output
	Begin, End int64
}

// callTime bounds each call.
const callTime = time.Second

// history calls the provider, and tells all that it has answered.
func (c *child) history(ctx context.Context, args json.RawMessage) (any, error) {
	var a historyArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, errors.New("the arguments are malformed")
	}
	var mu sync.Mutex
	var events []event
	together(a.Goroutines, func(g int) {
		choice := rand.New(rand.NewPCG(a.Seed, uint64(g)))
		w := &writer{child: c, args: &a, older: map[int]tokencache.Version{}}
		for range a.Rounds {
			w.round(ctx, choice.IntN(len(a.Names)), choice.IntN(100))
		}
		mu.Lock()
		defer mu.Unlock()
		events = append(events, w.events...)
	})
	return events, nil
}

// writer is one goroutine of a process.
type writer struct {
	child  *child
	args   *historyArgs
	older  map[int]tokencache.Version // seen before the last load, by name
	events []event
}

// round loads what is stored under a name, and does one of the things that callers
// do then: most often, replace it.
func (w *writer) round(ctx context.Context, name, choice int) {
	p, n := w.child.provider, w.args.Names[name]
	caps := p.Capabilities()
	seen := w.call(ctx, name, input{Op: "load"}, func(ctx context.Context) (stored, error) {
		r, err := p.Load(ctx, n)
		s := stored{Version: r.Version, Removed: err == nil && r.Removed(), Mark: r.Mark}
		if err == nil && !r.Removed() && string(r.Sealed) != r.Version.String() {
			s.Version = tokencache.NewVersion() // a mixture: nobody has saved that
		}
		return s, err
	}).Seen
	older := w.older[name]
	w.older[name] = seen.Version
	save := input{Op: "save", Version: tokencache.NewVersion(), Mark: seen.Mark, Cond: "version", CondVersion: seen.Version}
	if seen.Version == (tokencache.Version{}) {
		save.Cond = "absent"
	}
	switch {
	case choice < 3:
		save.Cond = "always"
	case choice < 6:
		save.Cond, save.Removed = "always", true
	case choice < 9 && caps.Owners != nil:
		mark := tokencache.NewVersion()
		w.call(ctx, name, input{Op: "mark", Version: mark}, func(ctx context.Context) (stored, error) {
			return stored{}, caps.Owners.SetMark(ctx, n.Owner, mark, time.Now().Add(time.Hour))
		})
		return
	case choice < 18:
		save.Removed = true
	case choice < 26:
		save.Cond = "absent"
	case choice < 34:
		save.CondVersion, save.Cond = older, "version"
	case choice < 42 && caps.Toucher != nil:
		w.call(ctx, name, input{Op: "touch", Version: seen.Version}, func(ctx context.Context) (stored, error) {
			return stored{}, caps.Toucher.Touch(ctx, n, seen.Version, time.Now().Add(time.Hour))
		})
		return
	}
	w.save(ctx, name, save)
}

func (w *writer) save(ctx context.Context, name int, in input) {
	in.Repeated = !w.child.setup.NoRetries
	cond := map[string]tokencache.Condition{"always": tokencache.Always(), "version": tokencache.IfVersion(in.CondVersion)}[in.Cond]
	r := tokencache.Record{Version: in.Version, Mark: in.Mark, Expires: time.Now().Add(time.Hour)}
	if !in.Removed {
		r.Sealed = []byte(in.Version.String())
	}
	w.call(ctx, name, in, func(ctx context.Context) (stored, error) {
		return stored{}, w.child.provider.Save(ctx, w.args.Names[name], r, cond)
	})
}

// call makes a call and notes it.
func (w *writer) call(ctx context.Context, name int, in input, f func(context.Context) (stored, error)) output {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	e := event{Name: name, In: in, Begin: ticks()}
	seen, err := f(ctx)
	e.End = ticks()
	e.Out.Seen = seen
	switch {
	case err == nil:
		e.Out.Outcome = "done"
	case errors.Is(err, tokencache.ErrNotFound):
		e.Out.Outcome = "not found"
	case errors.Is(err, tokencache.ErrConflict):
		e.Out.Outcome = "conflict"
	case errors.Is(err, tokencache.ErrRemoved):
		e.Out.Outcome = "removed"
	default:
		e.Out = output{Outcome: unknown}
		w.recover()
	}
	w.events = append(w.events, e)
	return e.Out
}

// recover waits until the backend answers again. Calls that fail one after another
// tell nothing, and there would soon be too many for a check.
func (w *writer) recover() {
	pinger := w.child.provider.Capabilities().Pinger
	if pinger == nil {
		time.Sleep(callTime / 10)
		return
	}
	for end := time.Now().Add(3 * callTime); time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond) // a driver that is asked again and again only gives up for longer
		ctx, cancel := context.WithTimeout(context.Background(), callTime)
		err := pinger.Ping(ctx)
		cancel()
		if err == nil {
			return
		}
	}
}

const (
	historyNames = 8
	historyWide  = 8 // goroutines of each of three processes
)

// What several processes are answered while their connections are cut, answers
// get lost and everything takes its time, has an explanation: some order of the
// calls, one after another, in which each answer is right. Where conditions are not
// looked at, the same calls have none.
func TestHistoriesOfProcesses(t *testing.T) {
	everyBackend(t, true, func(t *testing.T, s service) {
		t.Run("everything", func(t *testing.T) {
			for round := range rounds(s, 2, 40) {
				if checkHistory(t, s, uint64(round), func(s *setup) { s.NoRetries = true }, true) == 0 {
					t.Error("no call has failed: the faults did nothing")
				}
			}
		})
		t.Run("with a driver that repeats", func(t *testing.T) {
			for round := range rounds(s, 2, 40) {
				checkHistory(t, s, uint64(round), nil, true)
			}
		})
		t.Run("without conditions", func(t *testing.T) {
			for round := range rounds(s, 1, 40) {
				checkHistory(t, s, uint64(round), func(s *setup) { s.NoRetries, s.Unconditional = true, true }, false)
			}
		})
	})
}

// checkHistory has three processes work at once through connections with faults,
// and looks for an explanation. It returns how many calls have failed.
func checkHistory(t *testing.T, s service, seed uint64, change func(*setup), explained bool) (lost int) {
	t.Helper()
	const processes = 3
	setups, proxies := make([]setup, processes), make([]*testserver.Proxy, processes)
	for i := range setups {
		proxies[i] = testserver.NewProxy(t, s.at().addr(t))
		setups[i] = setup{Name: fmt.Sprintf("process %d", i), Backend: s.at().through(proxies[i].Addr())}
		if change != nil {
			change(&setups[i])
		}
	}
	fleet := startAll(t, setups)
	names := make([]tokencache.Name, historyNames)
	for i := range names {
		names[i] = newName()
	}
	results := make([][]event, processes)
	over := make(chan struct{})
	var trouble sync.WaitGroup
	for i, proxy := range proxies {
		trouble.Go(func() { makeTrouble(proxy, rand.New(rand.NewPCG(seed, uint64(i))), over) })
	}
	together(processes, func(i int) {
		a := historyArgs{Names: names, Goroutines: historyWide, Rounds: 50, Seed: seed*processes + uint64(i)}
		if err := fleet[i].call("history", a, &results[i]); err != nil {
			t.Error(err)
		}
	})
	close(over)
	trouble.Wait()
	return judge(t, results, explained)
}

// newName is a name as a cache makes them.
func newName() tokencache.Name {
	hash := func() string {
		a, b := tokencache.NewVersion(), tokencache.NewVersion()
		return (a.String() + b.String())[:42] + "A"
	}
	return tokencache.Name{Owner: hash(), Partition: hash()}
}

// makeTrouble lets one fault after another happen to a process's connections.
func makeTrouble(p *testserver.Proxy, choice *rand.Rand, over <-chan struct{}) {
	defer p.Heal()
	for {
		f, last := testserver.Fault{}, time.Duration(1+choice.IntN(15))*time.Millisecond
		switch choice.IntN(4) {
		case 0: // short, since the driver takes its time to come back
			f, last = testserver.Fault{Cut: true}, time.Millisecond
		case 1:
			f = testserver.Fault{DropReplies: true, Times: 1 + choice.IntN(2)}
		case 2:
			f = testserver.Fault{ResetAfter: 1 + choice.IntN(200), Times: 1 + choice.IntN(2)}
		case 3:
			f = testserver.Fault{Delay: time.Millisecond, Jitter: 5 * time.Millisecond}
		}
		p.Set(f)
		for _, pause := range []time.Duration{last, time.Duration(10+choice.IntN(30)) * time.Millisecond} {
			select {
			case <-over:
				return
			case <-time.After(pause):
				p.Heal()
			}
		}
	}
}

// judge looks for an order of the calls under each name.
func judge(t *testing.T, results [][]event, explained bool) (lost int) {
	t.Helper()
	byName := make([][]porcupine.Operation, historyNames)
	calls := 0
	for client, events := range results {
		for _, e := range events {
			calls++
			if e.Out.Outcome == unknown {
				lost++
				if e.In.Op == "load" || e.In.Op == "touch" {
					continue // it changed nothing, and told nothing
				}
				e.End = math.MaxInt64
			}
			byName[e.Name] = append(byName[e.Name], porcupine.Operation{
				ClientId: client, Input: e.In, Call: e.Begin, Output: e.Out, Return: e.End,
			})
		}
	}
	count := map[porcupine.CheckResult]int{}
	for _, ops := range byName {
		count[porcupine.CheckOperationsTimeout(model(), ops, 5*time.Second)]++
	}
	t.Logf("%d calls, %d of them with unknown outcome, under %d names: %d explained, %d without an explanation, %d given up",
		calls, lost, historyNames, count[porcupine.Ok], count[porcupine.Illegal], count[porcupine.Unknown])
	switch {
	case explained && (count[porcupine.Illegal] > 0 || count[porcupine.Ok] < historyNames-1):
		t.Error("no order of the calls explains their answers")
	case !explained && count[porcupine.Illegal] == 0:
		t.Error("an order of the calls was found, though nothing looked at their conditions")
	}
	return lost
}
