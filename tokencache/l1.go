package tokencache

import (
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// l1 holds opened partitions in this process, each for a short time.
//
// A load or a save that was overtaken by a change must not put its older state
// back: whoever wants to keep a state notes the epoch of its name first, and
// every change moves the epoch on. Names share epochs, so that their number is
// bounded; a collision costs one more load.
type l1 struct {
	cache   *otter.Cache[keyID, *state]
	maxAge  time.Duration
	off     bool // nothing is kept: hooks persist, and each access reads again
	seed    maphash.Seed
	stripes [256]stripe

	mu     sync.Mutex       // guards byName; never held while calling the cache
	byName map[string]named // of what is cached, by partition name: watchers know names only

	putting atomic.Int32  // how many put something at this moment
	missed  atomic.Uint64 // how often changes may have been missed

	saving sync.Map // Version → struct{}: saves of this cache that are under way
}

// named is what stands in L1 under a name.
type named struct {
	id keyID
	st *state
}

type stripe struct {
	mu    sync.Mutex // held while the cache is changed, so that epoch and content agree
	epoch uint64
}

// l1Overhead is roughly what an entry takes beside its plaintext: the decoded
// index, names, and the cache's own bookkeeping.
const l1Overhead = 1024

// leastAge is the least maximum age with which copies are kept. One that lives for
// less answers nobody, and is only a secret more in memory.
const leastAge = time.Millisecond

func newL1(maxBytes uint64, maxAge time.Duration) (*l1, error) {
	l := &l1{maxAge: maxAge, seed: maphash.MakeSeed(), byName: map[string]named{}}
	var err error
	l.cache, err = otter.New(&otter.Options[keyID, *state]{
		MaximumWeight: maxBytes,
		Executor:      l.upkeep,
		Weigher:       func(_ keyID, st *state) uint32 { return uint32(st.snap.size() + l1Overhead) }, // #nosec G115 -- at most 1 MiB
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[keyID, *state]) time.Duration {
			return e.Value.life(maxAge)
		}),
		OnAtomicDeletion: func(e otter.DeletionEvent[keyID, *state]) {
			l.forgetName(e.Value)
		},
	})
	return l, err
}

// upkeep runs what the cache has to do after puts and hits. Whoever puts does it:
// that is short, and to wake a goroutine for it takes as long as a near backend's
// answer. A hit is shorter still.
func (l *l1) upkeep(run func()) {
	if l.putting.Load() > 0 {
		run()
		return
	}
	go run()
}

func (l *l1) close() { l.cache.StopAllGoroutines() }

// get returns the state of a live partition, nil if it is not here.
func (l *l1) get(id *keyID) *state {
	if st, ok := l.cache.GetIfPresent(*id); ok && st.seen == l.missed.Load() {
		return st
	}
	return nil
}

// aged is get for when the provider does not answer: changes may have been
// missed, but for no longer than maxAge.
func (l *l1) aged(id *keyID) *state {
	st, _ := l.cache.GetIfPresent(*id)
	return st
}

// epoch returns the current epoch of the name, for keep and replace.
func (l *l1) epoch(name Name) uint64 {
	s := l.stripe(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// keep puts a state that was loaded, unless anything changed since epoch. A
// partition without tokens is nothing to keep, but ends what is here; one that
// does not open tells nothing about it.
func (l *l1) keep(id keyID, st *state, epoch uint64) {
	s := l.stripe(st.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.epoch != epoch:
	case st.snap != nil:
		l.put(id, st)
	case !errors.Is(st.err, ErrUnreadable):
		l.cache.Invalidate(id)
	}
}

// replace puts a state that was saved. If anything else changed since epoch,
// it cannot tell which is newer and drops what is there. It returns the new
// epoch, and whether the state is the one of that epoch.
func (l *l1) replace(id keyID, st *state, epoch uint64) (uint64, bool) {
	s := l.stripe(st.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	unchanged := s.epoch == epoch
	s.epoch++ // loads that started before the save are overtaken
	if unchanged {
		st.saved = true
		l.put(id, st)
		return s.epoch, true
	}
	l.cache.Invalidate(id)
	return s.epoch, false
}

func (l *l1) put(id keyID, st *state) {
	if l.off || l.maxAge < leastAge {
		return
	}
	st.seen = l.missed.Load()
	l.mu.Lock()
	l.byName[st.name.Partition] = named{id, st}
	l.mu.Unlock()
	l.putting.Add(1)
	l.cache.Set(id, st)
	l.putting.Add(-1)
}

// drop removes the partition of that name and overtakes whoever is about to
// put it.
func (l *l1) drop(name Name) {
	s := l.stripe(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	if id, ok := l.idOf(name); ok {
		l.cache.Invalidate(id)
	}
}

// own has messages of the version ignored: whoever saves it sees to L1. It
// returns the function that ends that.
func (l *l1) own(v Version) (over func()) {
	l.saving.Store(v, struct{}{})
	return func() { l.saving.Delete(v) }
}

// changed takes a message of the provider's watcher. It returns whose copy it
// dropped, the zero keyID if there was none.
func (l *l1) changed(c Change) keyID {
	if c.Missed {
		l.dropAll()
		return keyID{}
	}
	if _, own := l.saving.Load(c.Version); own {
		return keyID{}
	}
	id, ok := l.idOf(c.Name)
	if ok {
		if st := l.get(&id); st != nil && st.version == c.Version { // it is here already
			if !st.saved { // but a load that began earlier may be under way, and bring what is older
				l.overtake(c.Name)
			}
			return keyID{}
		}
	}
	l.drop(c.Name)
	return id
}

// overtake keeps loads that are under way from putting what is older than what
// is here.
func (l *l1) overtake(name Name) {
	s := l.stripe(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
}

// dropAll ends all that is here, after changes may have been missed. It stays
// for the case that the provider does not answer who asks anew.
func (l *l1) dropAll() {
	for i := range l.stripes {
		s := &l.stripes[i]
		s.mu.Lock()
		s.epoch++
		s.mu.Unlock()
	}
	l.missed.Add(1) // last: what is put from now on was loaded afterwards, or is ended too
}

func (l *l1) idOf(name Name) (keyID, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.byName[name.Partition]
	return n.id, ok
}

func (l *l1) forgetName(st *state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byName[st.name.Partition].st == st { // not of what is being put in its place
		delete(l.byName, st.name.Partition)
	}
}

func (l *l1) stripe(name Name) *stripe {
	return &l.stripes[maphash.String(l.seed, name.Partition)%uint64(len(l.stripes))]
}
