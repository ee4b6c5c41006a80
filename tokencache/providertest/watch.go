package providertest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func watchTests() []testCase {
	return []testCase{
		{"MissedFirst", testWatchMissedFirst},
		{"Changes", testWatchChanges},
		{"Several", testWatchSeveral},
		{"Ends", testWatchEnds},
		{"Again", testWatchAgain},
		{"Gapless", testWatchGapless},
		{"Crowd", testWatchCrowd},
	}
}

// patience is how long a change may take to arrive.
const patience = 10 * time.Second

// watching is one running Watch.
type watching struct {
	changes  chan tokencache.Change
	returned chan error
	stop     context.CancelFunc
	// late counts what arrived after Watch had returned.
	ended atomic.Bool
	late  atomic.Int32
}

// watch starts a Watch on p and waits for its first message.
func (e *env) watch(p tokencache.Provider) *watching {
	e.Helper()
	ctx, stop := context.WithCancel(e.ctx)
	w := &watching{
		changes:  make(chan tokencache.Change, 4096), // notify must not block
		returned: make(chan error, 1),
		stop:     stop,
	}
	e.Cleanup(func() { _ = w.end() })
	go func() {
		defer close(w.returned)
		err := p.Capabilities().Watcher.Watch(ctx, func(c tokencache.Change) {
			if w.ended.Load() {
				w.late.Add(1)
			}
			w.changes <- c
		})
		w.ended.Store(true)
		w.returned <- err
	}()
	if first := e.next(w, ruleWatchMissed); !first.Missed {
		e.broken(ruleWatchMissed, "the first Change is not Missed")
	}
	return w
}

// end stops the Watch and returns its error once it has returned.
func (w *watching) end() error {
	w.stop()
	return <-w.returned
}

func (e *env) next(w *watching, rule string) tokencache.Change {
	e.Helper()
	select {
	case c := <-w.changes:
		return c
	case err := <-w.returned:
		e.broken(rule, "Watch returned before its context ended: %v", err)
	case <-time.After(patience):
		e.broken(rule, "no Change within %v", patience)
	}
	return tokencache.Change{}
}

// wantChange waits for the change. Others may come between, of names that
// share the store, and Missed counts as none: it tells of a lost connection,
// which a test has not.
func (e *env) wantChange(rule string, w *watching, n tokencache.Name, v tokencache.Version) tokencache.Change {
	e.Helper()
	for {
		if c := e.next(w, rule); c.Name == n && c.Version == v {
			return c
		}
	}
}

func (e *env) wantReplaced(c tokencache.Change, v tokencache.Version) {
	e.Helper()
	if c.Replaced != v && c.Replaced != (tokencache.Version{}) {
		e.broken(ruleWatchReplaced, "a Change tells of another version than was there")
	}
}

func testWatchMissedFirst(e *env) {
	e.create(record("before anyone watched"))
	e.watch(e.p)
	e.watch(e.peer)
}

func testWatchChanges(e *env) {
	w := e.watch(e.p)
	r, there, dead := record("created"), record("changed there"), tombstone()
	n := e.create(r)
	e.wantReplaced(e.wantChange(ruleWatchOwn, w, n, r.Version), tokencache.Version{})
	e.save(e.peer, n, there, tokencache.IfVersion(r.Version))
	e.wantReplaced(e.wantChange(ruleWatch, w, n, there.Version), r.Version)
	e.save(e.peer, n, dead, tokencache.Always())
	e.wantReplaced(e.wantChange(ruleWatch, w, n, dead.Version), there.Version)
	// Nothing is lost in a crowd either. There is no order between partitions,
	// which may be on several servers.
	crowd := make(changes)
	for range 50 {
		r := record("one of many")
		crowd.add(e.create(r), r.Version)
	}
	e.wantAll(w, crowd)
}

func testWatchSeveral(e *env) {
	all := []*watching{e.watch(e.p), e.watch(e.p), e.watch(e.peer)}
	r := record("told to all")
	n := e.create(r)
	for _, w := range all {
		e.wantChange(ruleWatch, w, n, r.Version)
	}
	// One that leaves does not take the others along.
	_ = all[0].end()
	next := record("told to the rest")
	e.save(e.p, n, next, tokencache.IfVersion(r.Version))
	for _, w := range all[1:] {
		e.wantChange(ruleWatch, w, n, next.Version)
	}
}

func testWatchEnds(e *env) {
	w := e.watch(e.p)
	w.stop()
	select {
	case err := <-w.returned:
		e.want(ruleWatch, err, context.Canceled, "Watch whose context was cancelled")
	case <-time.After(patience):
		e.broken(ruleWatch, "Watch has not returned %v after its context ended", patience)
	}
	e.create(record("nobody watches"))
	e.create(record("still nobody"))
	if late := w.late.Load(); late > 0 {
		e.broken(ruleWatch, "notify was called %d times after Watch had returned", late)
	}

	ended, cancel := context.WithCancel(e.ctx)
	cancel()
	err := e.caps.Watcher.Watch(ended, func(tokencache.Change) {})
	if !errors.Is(err, context.Canceled) {
		e.broken(ruleWatch, "Watch with a cancelled context: error %v", err)
	}
}
