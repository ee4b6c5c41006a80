package memory

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// stripes spread owners over locks. 128 of them cost some 20 KB, and few enough
// goroutines run at once that two rarely meet in one.
type stripes struct {
	seed maphash.Seed
	all  [128]stripe
}

func (ss *stripes) init(maxMarks int64) {
	ss.seed = maphash.MakeSeed()
	for i := range ss.all {
		ss.all[i].maxMarks = max(8, int(maxMarks)/len(ss.all))
		ss.all[i].living = make(map[string]*entry)
	}
}

func (ss *stripes) of(owner string) *stripe {
	return &ss.all[maphash.String(ss.seed, owner)%uint64(len(ss.all))]
}

// stripe is everything there is of some of the owners, beside their records.
type stripe struct {
	// gate guards marks. Save holds it shared until its record is stored.
	gate     sync.RWMutex
	marks    map[string]mark
	maxMarks int
	// prune is the number of marks at which the expired ones are looked for,
	// so that looking costs little per mark that is set.
	prune int

	// index guards living and the links of its entries.
	index sync.Mutex
	// living has, for each owner, the first of its entries that are neither
	// removed nor gone. One pointer for each owner: most have one entry.
	living map[string]*entry
}

// mark is an owner's removal mark.
type mark struct {
	version tokencache.Version
	expires int64 // as entry.expires
}

func (m mark) expired(now time.Time) bool { return m.expires <= now.UnixNano() }

// mark returns the owner's mark, zero if there is none. The caller holds gate.
func (s *stripe) mark(owner string, now time.Time) tokencache.Version {
	m, ok := s.marks[owner]
	if !ok || m.expired(now) {
		return tokencache.Version{}
	}
	return m.version
}

// setMark replaces the owner's mark, and returns whether there was room.
func (s *stripe) setMark(owner string, m mark, now time.Time) bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	if m.version == (tokencache.Version{}) || m.expired(now) {
		delete(s.marks, owner)
		return true
	}
	if len(s.marks) >= s.prune {
		s.pruneLocked(now)
	}
	if _, ok := s.marks[owner]; !ok && len(s.marks) >= s.maxMarks {
		return false
	}
	if s.marks == nil {
		s.marks = make(map[string]mark)
	}
	s.marks[owner] = m
	return true
}

// pruneLocked drops expired marks and returns how many. The caller holds gate.
func (s *stripe) pruneLocked(now time.Time) int {
	pruned := 0
	for owner, m := range s.marks {
		if m.expired(now) {
			delete(s.marks, owner)
			pruned++
		}
	}
	s.prune = min(2*len(s.marks)+8, s.maxMarks)
	return pruned
}

// replace takes old, which may be nil, out of the index, and puts next in unless
// it is a tombstone. Both have the same name.
func (s *stripe) replace(old, next *entry) {
	s.index.Lock()
	defer s.index.Unlock()
	if old != nil {
		s.unlinkLocked(old)
	}
	if next.removed() {
		return
	}
	owner := next.name.Owner
	if first := s.living[owner]; first != nil {
		next.next, first.prev = first, next
	}
	s.living[owner] = next
}

// drop takes an entry out of the index, if it is there. It goes by the entry
// and not by its name, under which another may be stored by now.
func (s *stripe) drop(e *entry) {
	s.index.Lock()
	defer s.index.Unlock()
	s.unlinkLocked(e)
}

func (s *stripe) unlinkLocked(e *entry) {
	switch {
	case e.prev != nil:
		e.prev.next = e.next
	case s.living[e.name.Owner] != e:
		return // a tombstone, or taken out before
	case e.next == nil:
		delete(s.living, e.name.Owner)
	default:
		s.living[e.next.name.Owner] = e.next // the key of an entry that stays
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	e.prev, e.next = nil, nil
}

// list returns the names of the owner's living entries.
func (s *stripe) list(owner string, now time.Time) []tokencache.Name {
	s.index.Lock()
	defer s.index.Unlock()
	var names []tokencache.Name
	for e := s.living[owner]; e != nil; e = e.next {
		if !e.expired(now) {
			names = append(names, e.name)
		}
	}
	return names
}
