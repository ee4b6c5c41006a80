package tokencache

import (
	"cmp"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// hearsay remembers for a while which version was replaced by which, whoever did
// it, as the provider's watcher tells it. A machine that loads one of them finds a
// store that has gone back, by a failover that lost what it had acknowledged. It
// may have nothing to restore: it then waits for the machine that wrote last, whose
// [journal] has. Until then it must not use what came back. A refresh token in it
// has been spent, and would sign its user out.
//
// Versions are random and never repeat, so no names are needed. That nothing was
// stored under a name counts as a version of its own, see absence.
type hearsay struct {
	mu         sync.Mutex
	young, old map[Version]heard
	since      time.Time // when the first of young was heard of
	count      atomic.Int64
}

type heard struct {
	by   Version
	at   time.Time
	seen time.Time // when it was first loaded afterwards
}

const (
	// hearsayMost bounds the versions in each half, some 8 MB together.
	hearsayMost = 1 << 15
	// hearsayPatience is for how long the machine that wrote is waited for. It has
	// to notice the failover, to connect, and to save, which takes a second or two.
	// If it does not come, it is gone, and what it knew with it. A sign-in waits no
	// shorter.
	hearsayPatience = 5 * time.Second
	// hearsaySteps bounds how far a succession is followed.
	hearsaySteps = 1000
)

// add notes what the change replaced.
func (h *hearsay) add(c *Change) {
	if c.Missed || c.Replaced == c.Version { // a save that was repeated, as its reply was lost
		return
	}
	v, now := cmp.Or(c.Replaced, absence(c.Name)), time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.young) >= hearsayMost || now.Sub(h.since) > journalLife {
		h.old, h.young, h.since = h.young, map[Version]heard{}, now
	}
	h.young[v] = heard{by: c.Version, at: now}
	h.count.Store(int64(len(h.young) + len(h.old)))
}

// replaced tells whether the version was replaced, and when that was heard of. It
// is no longer true when who knows more has been waited for long enough.
func (h *hearsay) replaced(v Version) (at time.Time, ok bool) {
	if h.count.Load() == 0 {
		return time.Time{}, false
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	e, half, ok := h.of(v)
	switch {
	case !ok:
		return time.Time{}, false
	case e.seen.IsZero():
		e.seen = now
		half[v] = e
	case now.Sub(e.seen) >= hearsayPatience:
		delete(h.young, v)
		delete(h.old, v) // it may have been heard of twice
		return time.Time{}, false
	}
	return e.at, true
}

// knows tells whether it was heard that the version was replaced.
func (h *hearsay) knows(v Version) bool {
	return h.leads(v, func(Version) bool { return true })
}

// leads tells whether the version was replaced by one that is, be it in several
// steps.
func (h *hearsay) leads(v Version, is func(Version) bool) bool {
	if h.count.Load() == 0 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for range hearsaySteps {
		e, _, ok := h.of(v)
		if !ok {
			return false
		}
		if is(e.by) {
			return true
		}
		v = e.by
	}
	return false
}

// of is called with the lock held.
func (h *hearsay) of(v Version) (e heard, half map[Version]heard, ok bool) {
	half = h.young
	if e, ok = half[v]; !ok {
		half = h.old
		e, ok = half[v]
	}
	return e, half, ok && time.Since(e.at) < journalLife
}

// absence stands for the version of what is not there.
func absence(name Name) Version {
	sum := sha256.Sum256([]byte("nothing\x00" + name.Owner + "\x00" + name.Partition))
	return Version(sum[:len(Version{})])
}
