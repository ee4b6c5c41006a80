package session

import (
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// note is what this process knows of the tokens of a session.
type note struct {
	version tokencache.Version
	// expires is when the record of that version vanishes.
	expires time.Time
	// end is the session's deadline: what is saved where the session is not known
	// vanishes then. Never is it before what was stored already, which another
	// process may have extended since.
	end time.Time
}

// notes remember the sessions that this process has worked for lately, some maxNotes
// of them, in at most 3 MB. To forget one costs a write, or has a job's tokens live
// longer than it should.
type notes struct {
	mu       sync.Mutex
	new, old map[string]note // by partition
}

const maxNotes = 8192

// get returns the note of the partition. The caller holds mu.
func (n *notes) get(partition string) (note, bool) {
	if e, ok := n.new[partition]; ok {
		return e, true
	}
	e, ok := n.old[partition]
	return e, ok
}

// put keeps a note. The caller holds mu.
func (n *notes) put(partition string, e note) {
	if n.new == nil || len(n.new) >= maxNotes/2 {
		n.new, n.old = make(map[string]note), n.new
	}
	n.new[partition] = e
}

// end returns when the session of the record ends: the deadline if its session is at
// hand, or else what was seen last. Zero is never, also of what belongs to none.
func (n *notes) end(name tokencache.Name, deadline time.Time) time.Time {
	if !deadline.IsZero() {
		return deadline
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	e, _ := n.get(name.Partition)
	return e.end
}

// loaded notes what is stored, if it belongs to a session. The deadline is zero if
// the session is not at hand.
func (n *notes) loaded(name tokencache.Name, r tokencache.Record, deadline time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e, known := n.get(name.Partition)
	switch {
	case !deadline.IsZero():
		e.end = deadline
	case !known:
		return
	case r.Expires.IsZero() || r.Expires.After(e.end):
		e.end = r.Expires
	}
	e.version, e.expires = r.Version, r.Expires
	n.put(name.Partition, e)
}

// saved notes what was stored, if it belongs to a session.
func (n *notes) saved(name tokencache.Name, r tokencache.Record, deadline time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e, known := n.get(name.Partition)
	if !known && deadline.IsZero() {
		return
	}
	if !deadline.IsZero() {
		e.end = deadline
	}
	e.version, e.expires = r.Version, r.Expires
	n.put(name.Partition, e)
}

// enough is how much shorter than its session a record may live: stores round.
const enough = time.Second

// lasts tells whether the record of that version vanishes at the time given.
func (n *notes) lasts(name tokencache.Name, v tokencache.Version, end time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	e, ok := n.get(name.Partition)
	return ok && e.version == v && e.expires.Sub(end).Abs() < enough
}
