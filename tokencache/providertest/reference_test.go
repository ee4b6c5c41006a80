package providertest_test

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// reference is the smallest correct provider: a map and a mutex. With a fault,
// it is the smallest provider that is wrong in one way.
type reference struct {
	fault fault
	*store
}

// store is what two references share.
type store struct {
	mu       sync.Mutex
	records  map[tokencache.Name]tokencache.Record
	marks    map[string]tokencache.Record // Version and Expires
	indexed  map[tokencache.Name]bool     // only the faults in the index use it
	leases   map[tokencache.Name]*lease
	watchers map[*watcher]bool
	asked    int
}

func newReference(f fault) *reference {
	return &reference{fault: f, store: &store{
		records:  make(map[tokencache.Name]tokencache.Record),
		marks:    make(map[string]tokencache.Record),
		indexed:  make(map[tokencache.Name]bool),
		leases:   make(map[tokencache.Name]*lease),
		watchers: make(map[*watcher]bool),
	}}
}

func expired(at time.Time) bool { return !at.IsZero() && !time.Now().Before(at) }

func (p *reference) Capabilities() tokencache.Capabilities {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	c := tokencache.Capabilities{
		InProcess: true, Leaser: p, Toucher: p, Owners: p, Watcher: p, Sweeper: p, Pinger: p,
	}
	if p.fault == capabilityTypedNil {
		c.Pinger = (*reference)(nil)
	}
	if p.fault == capabilityChanges && p.asked > 3 {
		c.InProcess = false
	}
	return c
}

// get returns what is stored and has not expired.
func (p *reference) get(n tokencache.Name) (tokencache.Record, bool) {
	r, ok := p.records[n]
	if ok && expired(r.Expires) && p.fault != expiryIgnored {
		return tokencache.Record{}, false
	}
	return r, ok
}

func (p *reference) mark(owner string) tokencache.Version {
	m := p.marks[owner]
	if expired(m.Expires) && p.fault != markForEver {
		return tokencache.Version{}
	}
	return m.Version
}

func (p *reference) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	if ctx.Err() != nil {
		if p.fault == contextNotFound {
			return tokencache.Record{}, tokencache.ErrNotFound
		}
		return tokencache.Record{}, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.get(p.folded(n))
	mark := p.mark(n.Owner)
	if !ok || p.fault == tombstoneNotLoaded && r.Removed() {
		if p.fault == markNotWithNotFound {
			mark = tokencache.Version{}
		}
		return tokencache.Record{Mark: mark}, tokencache.ErrNotFound
	}
	r.Mark = mark
	if p.fault != sliceShared {
		r.Sealed = bytes.Clone(r.Sealed)
	}
	return r, nil
}

func (p *reference) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	if ctx.Err() != nil && p.fault != contextIgnored {
		return ctx.Err()
	}
	if len(r.Sealed) > tokencache.MaxSealedSize {
		if p.fault != tooLargeTruncated {
			return tokencache.ErrTooLarge
		}
		r.Sealed = r.Sealed[:tokencache.MaxSealedSize]
	}
	p.mu.Lock()
	err := p.saveLocked(p.folded(n), r, c)
	p.mu.Unlock()
	if err == nil {
		p.tell(tokencache.Change{Name: n, Version: r.Version})
	}
	return err
}

func (p *reference) saveLocked(n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	mark := p.mark(n.Owner)
	stale := mark != (tokencache.Version{}) && mark != r.Mark && p.fault != markIgnored
	if stale && (!r.Removed() || p.fault == markStopsTombstones) && p.fault != markAfterConflict {
		return tokencache.ErrRemoved
	}
	old, there := p.get(n)
	if p.fault == expiredIsSomething {
		old, there = p.records[n]
	}
	if !p.holds(c, old, there) {
		return tokencache.ErrConflict
	}
	if stale && !r.Removed() {
		return tokencache.ErrRemoved
	}
	p.put(n, r, there)
	return nil
}

func (p *reference) holds(c tokencache.Condition, old tokencache.Record, there bool) bool {
	v, byVersion := c.Version()
	switch {
	case c.Unconditional() || p.fault == conditionsIgnored:
		return true
	case byVersion && p.fault == updateInserts:
		return !there || old.Version == v
	case byVersion && p.fault == zeroVersionIsNothing:
		return old.Version == v // of nothing, it is the zero one
	case byVersion:
		return there && old.Version == v
	case p.fault == tombstoneIsNothing:
		return !there || old.Removed()
	default:
		return !there
	}
}

func (p *reference) put(n tokencache.Name, r tokencache.Record, there bool) {
	if p.fault == checkThenAct {
		p.mu.Unlock()
		time.Sleep(time.Microsecond)
		p.mu.Lock()
	}
	switch {
	case p.fault == tombstoneDeletes && r.Removed():
		delete(p.records, n)
		return
	case p.fault == expiryKept && there:
		r.Expires = p.records[n].Expires
	case p.fault == expiryInSeconds && !r.Expires.IsZero():
		r.Expires = time.Now().Add(time.Until(r.Expires) * 1000)
	}
	p.indexed[n] = !there || p.indexed[n] // a fault: forgets what was removed and came back
	if r.Removed() {
		p.indexed[n] = false
	}
	if p.fault != sliceKept {
		r.Sealed = bytes.Clone(r.Sealed)
	}
	p.records[n] = r
}

// folded is the name as a case-insensitive collation sees it.
func (p *reference) folded(n tokencache.Name) tokencache.Name {
	if p.fault == nameFolded {
		n.Partition = string(bytes.ToLower([]byte(n.Partition)))
	}
	return n
}
