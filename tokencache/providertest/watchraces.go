package providertest

import (
	"maps"
	"slices"
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

	pending := make(changes)
	for _, v := range written {
		pending.add(n, v)
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
// change is told to both, or Missed is. Most of them are the last of their record.
func testWatchCrowd(e *env) {
	const writers, each = 32, 15
	watches := []*watching{e.watch(e.p), e.watch(e.peer)}
	var mu sync.Mutex
	all := make(changes)
	e.together(writers, func(i int, p tokencache.Provider) {
		var n tokencache.Name
		for write := range each {
			if write%5 != 1 {
				n = newName()
			}
			r := record("writer " + strconv.Itoa(i))
			if err := p.Save(e.ctx, n, r, tokencache.Always()); err != nil {
				e.breach(ruleAlways, "Save beside Watch: error %v", err)
				return
			}
			mu.Lock()
			all.add(n, r.Version)
			mu.Unlock()
		}
	})
	for _, w := range watches {
		e.wantAll(w, maps.Clone(all))
	}
}

// changes are the versions that were saved under each name, the oldest first.
type changes map[tokencache.Name][]tokencache.Version

func (c changes) add(n tokencache.Name, v tokencache.Version) { c[n] = append(c[n], v) }

// told forgets a version and those before it under the same name (ruleWatchLast).
func (c changes) told(n tokencache.Name, v tokencache.Version) {
	c[n] = c[n][slices.Index(c[n], v)+1:]
	if len(c[n]) == 0 {
		delete(c, n)
	}
}

// wantAll waits for all of the changes, which have happened. Missed stands for
// those that have not come.
func (e *env) wantAll(w *watching, pending changes) {
	e.Helper()
	late := time.After(patience)
	for len(pending) > 0 {
		select {
		case c := <-w.changes:
			if c.Missed {
				return
			}
			pending.told(c.Name, c.Version)
		case err := <-w.returned:
			e.broken(ruleWatch, "Watch returned before its context ended: %v", err)
		case <-late:
			e.broken(ruleWatchLost, "the last changes of %d records were neither told nor followed by Missed within %v", len(pending), patience)
		}
	}
}
