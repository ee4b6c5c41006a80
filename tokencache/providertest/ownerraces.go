package providertest

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// storm is an owner whose partitions are created, by writers that look at its
// mark each time, while it is removed again and again.
type storm struct {
	*env
	owner string
	over  chan struct{} // closed after the last removal

	mu      sync.Mutex
	created []creation
}

type creation struct {
	name tokencache.Name
	mark tokencache.Version
	late bool // the save began after the last removal
}

// testRemoveOwnerStorm: afterwards, nothing of the owner lives that carries an
// older mark, and everything lives that was created after the last removal.
func testRemoveOwnerStorm(e *env) {
	const writers, removals = 8, 3
	s := &storm{env: e, owner: newHash(), over: make(chan struct{})}
	going := make(chan struct{}, writers)
	e.together(writers+1, func(i int, p tokencache.Provider) {
		if i < writers {
			s.write(p, going)
			return
		}
		defer close(s.over)
		for range writers / 2 {
			<-going
		}
		for range removals {
			e.removeOwner(s.owner, make(chan struct{}))
		}
	})
	last, _ := e.p.Load(e.ctx, tokencache.Name{Owner: s.owner, Partition: newHash()})
	if last.Mark == (tokencache.Version{}) {
		e.broken(ruleLoadMark, "Load of an owner that was removed shows no mark")
	}
	var alive []tokencache.Name
	for _, c := range s.created {
		got, err := e.peer.Load(e.ctx, c.name)
		e.want(ruleLoadRemoved, err, nil, "Load of what was stored")
		switch {
		case c.mark != last.Mark && !got.Removed():
			e.broken(ruleMarkFirst, "alive after its owner was removed: %s", describe(got.Sealed))
		case c.late && got.Removed():
			e.broken(ruleSave, "removed, but created after its owner was removed for the last time")
		case !got.Removed():
			alive = append(alive, c.name)
		}
	}
	e.wantListed(ruleList, s.owner, alive...)
}

// write creates partitions until the removals are over, and some more.
func (s *storm) write(p tokencache.Provider, going chan<- struct{}) {
	const most, more = 150, 3
	after := 0
	for i := 0; after < more; i++ {
		if i >= most {
			<-s.over
		}
		c := creation{name: tokencache.Name{Owner: s.owner, Partition: newHash()}, late: isClosed(s.over)}
		if c.late {
			after++
		}
		seen, err := p.Load(s.ctx, c.name)
		if !errors.Is(err, tokencache.ErrNotFound) {
			s.breach(ruleNotFound, "Load of what is not there: error %v", err)
		}
		c.mark = seen.Mark
		err = p.Save(s.ctx, c.name, marked(record("created"), c.mark), tokencache.Condition{})
		if i == 0 {
			going <- struct{}{}
		}
		switch {
		case err == nil:
			s.mu.Lock()
			s.created = append(s.created, c)
			s.mu.Unlock()
		case c.late || !errors.Is(err, tokencache.ErrRemoved):
			s.breach(ruleRemoved, "Save with the owner's mark: error %v", err)
			return
		}
	}
}

// known is what is certain about an owner's list.
type known struct {
	mu sync.Mutex
	// there is saved and stays; gone is removed and stays so.
	there, gone []tokencache.Name
}

func (k *known) add(list *[]tokencache.Name, n tokencache.Name) {
	k.mu.Lock()
	defer k.mu.Unlock()
	*list = append(*list, n)
}

// testListRace lists while partitions are created, removed and written anew. A
// list has what was there before it began, and stays, even while that is
// written; it lacks what was gone before, and stays gone.
func testListRace(e *env) {
	const workers, each = 9, 30
	owner, k := newHash(), &known{}
	var working atomic.Int32
	working.Store(workers)
	e.together(workers+3, func(i int, p tokencache.Provider) {
		if i < workers {
			e.work(p, i/2, each, owner, k)
			working.Add(-1)
			return
		}
		for working.Load() > 0 {
			e.listOnce(p, owner, k)
			breathe()
		}
	})
	e.wantListed(ruleList, owner, k.there...)
}

// work creates partitions, or creates and removes them, or writes one again and
// again.
func (e *env) work(p tokencache.Provider, kind, each int, owner string, k *known) {
	var n tokencache.Name
	var err error
	save := func(r tokencache.Record, c tokencache.Condition) {
		if err == nil {
			err = p.Save(e.ctx, n, r, c)
		}
	}
	for i := range each {
		if i == 0 || kind%3 != 2 {
			n = tokencache.Name{Owner: owner, Partition: newHash()}
			save(record("created"), tokencache.Condition{})
		}
		switch {
		case kind%3 == 1:
			save(tombstone(), tokencache.Always())
			k.add(&k.gone, n)
		case i == 0 || kind%3 == 0:
			k.add(&k.there, n)
		default:
			save(expiring(record("written again"), later()), tokencache.Always())
		}
	}
	if err != nil {
		e.breach(ruleSave, "Save beside lists: error %v", err)
	}
}

func (e *env) listOnce(p tokencache.Provider, owner string, k *known) {
	k.mu.Lock()
	there, gone := k.there[:len(k.there):len(k.there)], k.gone[:len(k.gone):len(k.gone)]
	k.mu.Unlock()
	names, err := p.Capabilities().Owners.List(e.ctx, owner)
	if err != nil {
		e.breach(ruleList, "List beside saves: error %v", err)
		return
	}
	listed := make(map[tokencache.Name]bool, len(names))
	for _, n := range names {
		listed[n] = true
	}
	for _, n := range there {
		if !listed[n] {
			e.breach(ruleList, "List misses one of %d partitions that were saved before it began", len(there))
			return
		}
	}
	for _, n := range gone {
		if listed[n] {
			e.breach(ruleList, "List has one of %d partitions that were removed before it began", len(gone))
			return
		}
	}
}
