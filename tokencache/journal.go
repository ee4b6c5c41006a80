package tokencache

import (
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// journal remembers for a while what this process has saved over what. A store
// that fails over to a replica may lose what it has acknowledged, and answer with
// what was there before. Versions are random and never repeat, so whoever has
// replaced one knows by it that the store has gone back. What the journal has no
// room for is not protected; that does no harm otherwise.
//
// A version gets in here only as the condition of a save that was acknowledged:
// whatever else is stored is never taken for an old one.
type journal struct {
	most int // bytes

	mu      sync.Mutex
	entries map[Name]*list.Element
	order   list.List // of *saved, the oldest first
	size    int
	round   uint64       // moved on when the store may have failed over
	working bool         // there is a goroutine that looks for what is lost
	count   atomic.Int64 // entries, for those who need not look
}

// saved is the last save under a name. It is not changed but for round.
type saved struct {
	key      Key
	name     Name
	record   Record
	replaced []Version // by this save, or by one that it has replaced; the oldest first
	at       time.Time // when it was acknowledged
	round    uint64    // the last one in which it was seen to be there; guarded by journal.mu
}

const (
	// journalLife outlasts a failover, with the time that it takes to notice that
	// one is needed, and is shorter than tombstoneLife.
	journalLife = 2 * time.Minute
	// journalBytes bounds what is remembered. The newest is what a failover loses.
	journalBytes = 32 << 20
	// journalVersions bounds the replaced versions that are remembered of a name. A
	// page that needs many tokens saves as often within a moment, and all of that
	// may be lost. Of what is replaced at once, a watcher may tell the last only, so
	// that there is no hearsay of the others.
	journalVersions = 64
	// journalOverhead is roughly what an entry takes beside its sealed bytes and the
	// replaced versions.
	journalOverhead = 512
)

// add notes that the record was saved over the state.
func (j *journal) add(key Key, over *state, r Record) {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.prune(now)
	s := &saved{key: key, name: over.name, record: r, at: now, round: j.round}
	if e := j.entries[s.name]; e != nil {
		before := e.Value.(*saved)
		s.replaced = slices.Clone(before.replaced)
		if slices.Contains(before.replaced, r.Version) {
			s.record = before.record // r was replaced before its writer got here
		}
		j.remove(e)
	}
	if was := over.was(); was != (Version{}) {
		s.replaced = append(s.replaced, was)
		s.replaced = s.replaced[max(0, len(s.replaced)-journalVersions):]
	}
	if j.entries == nil {
		j.entries = map[Name]*list.Element{}
	}
	j.entries[s.name] = j.order.PushBack(s)
	j.size += s.size()
	j.prune(now)
}

// newer returns what has replaced the state, nil if that is not known. In between
// there may have been what others saved, of which there is hearsay.
//
// Where nothing is stored, it may have expired or been evicted, or somebody has
// emptied the store to sign everybody out. That is not undone: only a new user who
// was not seen there since the store may have failed over comes back.
func (j *journal) newer(st *state, h *hearsay) *saved {
	if st == nil || j.count.Load() == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.prune(time.Now())
	e := j.entries[st.name]
	if e == nil {
		return nil
	}
	s, was := e.Value.(*saved), st.was()
	switch {
	case !st.found && (s.round == j.round || s.expired(time.Now()) || h.knows(s.record.Version)):
		return nil
	case slices.Contains(s.replaced, was), was != s.record.Version && h.leads(was, s.has):
		return s
	}
	return nil
}

// has tells whether it is the version, or has replaced it.
func (s *saved) has(v Version) bool {
	return v == s.record.Version || slices.Contains(s.replaced, v)
}

// expired tells whether it would be gone by itself.
func (s *saved) expired(now time.Time) bool {
	return !s.record.Expires.IsZero() && !now.Before(s.record.Expires)
}

// missed begins a round, and calls begun if there is anything to look for. It tells
// whether the caller is to start the goroutine that does.
func (j *journal) missed(begun func(round uint64)) (start bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.prune(time.Now())
	j.round++
	if len(j.entries) == 0 {
		return false
	}
	begun(j.round)
	start = !j.working
	j.working = true
	return start
}

// unseen returns what is to be looked for in this round, the newest first; if that
// is nothing, the work is over.
func (j *journal) unseen() (unseen []*saved, round uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.prune(time.Now())
	for e := j.order.Back(); e != nil; e = e.Prev() {
		if s := e.Value.(*saved); s.round < j.round {
			unseen = append(unseen, s)
		}
	}
	j.working = len(unseen) > 0
	return unseen, j.round
}

func (j *journal) seen(s *saved, round uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.round = round
}

// prune forgets what is too old or too much. It is called with the lock held, and
// keeps count.
func (j *journal) prune(now time.Time) {
	for e := j.order.Front(); e != nil; e = j.order.Front() {
		if j.size <= j.most && now.Sub(e.Value.(*saved).at) < journalLife {
			break
		}
		j.remove(e)
	}
	j.count.Store(int64(len(j.entries)))
}

func (j *journal) remove(e *list.Element) {
	s := j.order.Remove(e).(*saved)
	delete(j.entries, s.name)
	j.size -= s.size()
}

func (s *saved) size() int {
	return len(s.record.Sealed) + journalOverhead + len(s.replaced)*len(Version{})
}
