package providertest

import (
	"strconv"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// testWatchAgain ends a Watch and begins another, as after an outage: what
// happened between is not told, so Missed must come first each time.
func testWatchAgain(e *env) {
	for range 3 {
		for _, p := range []tokencache.Provider{e.p, e.peer} {
			w := e.watch(p) // which wants Missed
			r := record("watched")
			e.wantChange(ruleWatch, w, e.create(r), r.Version)
			_ = w.end()
			e.create(record("nobody watches"))
		}
	}
}

// testWatchGapless begins to watch in the middle of writes. Whoever loads after
// Missed, and follows the changes from there, misses none.
func testWatchGapless(e *env) {
	for range 3 {
		e.gapless(e.p)
		e.gapless(e.peer)
	}
}

func (e *env) gapless(p tokencache.Provider) {
	e.Helper()
	n, told := newName(), make(chan struct{})
	var written []tokencache.Version
	var writing sync.WaitGroup
	writing.Go(func() { written = e.writeUntil(n, told) })
	stop := sync.OnceFunc(func() {
		close(told)
		writing.Wait()
	})
	defer stop() // also if the test ends here
	w := e.watch(p)
	loaded, _ := p.Load(e.ctx, n) // perhaps nothing yet
	stop()

	pending := make(map[change]bool)
	for _, v := range written {
		pending[change{n, v}] = true
		if v == loaded.Version {
			clear(pending)
		}
	}
	e.wantAll(w, pending)
	_ = w.end()
}

// writeUntil writes one name until it is told to stop, and some more, and
// returns the versions in their order.
func (e *env) writeUntil(n tokencache.Name, stop <-chan struct{}) (written []tokencache.Version) {
	const most, more = 200, 5
	for after := 0; after < more; {
		if len(written) >= most {
			<-stop
		}
		if isClosed(stop) {
			after++
		}
		r := record("write " + strconv.Itoa(len(written)))
		if err := e.peer.Save(e.ctx, n, r, tokencache.Always()); err != nil {
			e.breach(ruleAlways, "Save beside Watch: error %v", err)
			return written
		}
		written = append(written, r.Version)
	}
	return written
}

// testWatchCrowd has many write at once, on both machines, and two watch. Each
// change is told to both, or Missed is.
func testWatchCrowd(e *env) {
	const writers, each = 32, 15
	watches := []*watching{e.watch(e.p), e.watch(e.peer)}
	var mu sync.Mutex
	all := make(map[change]bool)
	e.together(writers, func(i int, p tokencache.Provider) {
		n := newName()
		for range each {
			r := record("writer " + strconv.Itoa(i))
			if err := p.Save(e.ctx, n, r, tokencache.Always()); err != nil {
				e.breach(ruleAlways, "Save beside Watch: error %v", err)
				return
			}
			mu.Lock()
			all[change{n, r.Version}] = true
			mu.Unlock()
		}
	})
	for _, w := range watches {
		pending := make(map[change]bool, len(all))
		for c := range all {
			pending[c] = true
		}
		e.wantAll(w, pending)
	}
}

type change struct {
	name    tokencache.Name
	version tokencache.Version
}

// wantAll waits for all of the changes, which have happened. Missed stands for
// those that have not come.
func (e *env) wantAll(w *watching, pending map[change]bool) {
	e.Helper()
	late := time.After(patience)
	for len(pending) > 0 {
		select {
		case c := <-w.changes:
			if c.Missed {
				return
			}
			delete(pending, change{c.Name, c.Version})
		case err := <-w.returned:
			e.broken(ruleWatch, "Watch returned before its context ended: %v", err)
		case <-late:
			e.broken(ruleWatchLost, "%d changes were neither told nor followed by Missed within %v", len(pending), patience)
		}
	}
}
