package providertest_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// reference is the smallest correct provider: a map and a mutex. With a fault,
// it is the smallest provider that is wrong in one way.
type reference struct {
	fault fault
	*store
	// watches, copies and told are of one machine, and only faults use them.
	watches, told int
	given         map[string]bool // cursors
	copies        map[tokencache.Name]tokencache.Record
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

	// Only faults use these.
	loads    int
	saves    int
	previous map[tokencache.Name]tokencache.Record
}

func newReference(f fault) *reference {
	return &reference{fault: f, store: &store{
		records:  make(map[tokencache.Name]tokencache.Record),
		marks:    make(map[string]tokencache.Record),
		indexed:  make(map[tokencache.Name]bool),
		leases:   make(map[tokencache.Name]*lease),
		watchers: make(map[*watcher]bool),
		previous: make(map[tokencache.Name]tokencache.Record),
	}}
}

func expired(at time.Time) bool { return !at.IsZero() && !time.Now().Before(at) }

func (p *reference) Capabilities() tokencache.Capabilities {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	c := tokencache.Capabilities{
		InProcess: true, Leaser: p, Toucher: p, Owners: p, Watcher: p, Sweeper: p, Pinger: p, Lister: p,
	}
	c.Local = p.fault == localCopies
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
	m := p.marks[p.local(peerMarks, owner)]
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
	if p.fault == watchBabbles {
		defer p.tell(tokencache.Change{Name: n, Version: tokencache.NewVersion()})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.get(p.folded(n))
	r, ok = p.stale(n, r, ok)
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

// stale is what the faults of reading show instead of what is stored.
func (p *reference) stale(n tokencache.Name, r tokencache.Record, ok bool) (tokencache.Record, bool) {
	p.loads++
	if old, changed := p.previous[n]; p.fault == staleRead && changed && p.loads%61 == 0 {
		return old, true
	}
	if p.fault == peerRecords || p.fault == localCopies {
		if old, kept := p.copies[n]; kept {
			return old, true
		}
		if ok {
			p.keep(n, r)
		}
	}
	return r, ok
}

func (p *reference) keep(n tokencache.Name, r tokencache.Record) {
	if p.copies == nil {
		p.copies = make(map[tokencache.Name]tokencache.Record)
	}
	p.copies[n] = r
}

// local is a key that the peer does not see, if f is the fault.
func (p *reference) local(f fault, key string) string {
	if p.fault == f {
		return fmt.Sprintf("%p %s", p, key)
	}
	return key
}

// pause lets others in, if f is the fault.
func (p *reference) pause(f fault) {
	if p.fault == f {
		p.mu.Unlock()
		time.Sleep(time.Microsecond)
		p.mu.Lock()
	}
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
	if p.fault == largeTruncated {
		r.Sealed = r.Sealed[:min(len(r.Sealed), 64<<10)]
	}
	p.mu.Lock()
	err := p.saveLocked(p.folded(n), r, c)
	p.mu.Unlock()
	if err == nil {
		change := tokencache.Change{Name: n, Version: r.Version}
		if p.fault == watchReplaced {
			change.Replaced = r.Version
		}
		p.tell(change)
	}
	return err
}

func (p *reference) saveLocked(n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	mark := p.mark(n.Owner)
	stale := mark != (tokencache.Version{}) && mark != r.Mark && p.fault != markIgnored
	if stale && (!r.Removed() || p.fault == markStopsTombstones) && p.fault != markAfterConflict {
		return tokencache.ErrRemoved
	}
	p.pause(markThenAct)
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
	p.saves++
	if p.fault == tombstoneIgnored && r.Removed() || p.fault == saveForgets && p.saves%5 == 0 ||
		p.fault == saveForgetsHalf && p.saves%2 == 0 {
		return nil
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
	p.pause(checkThenAct)
	switch {
	case p.fault == tombstoneDeletes && r.Removed():
		delete(p.records, n)
		return
	case p.fault == expiryKept && there, p.fault == tombstoneExpires && there && r.Removed():
		r.Expires = p.records[n].Expires
	case p.fault == expiryInSeconds && !r.Expires.IsZero():
		r.Expires = time.Now().Add(time.Until(r.Expires) * 1000)
	case p.fault == saveTorn && there:
		torn := p.records[n]
		torn.Version = r.Version
		p.records[n] = torn
		p.pause(saveTorn)
	}
	if p.fault != sliceKept {
		r.Sealed = bytes.Clone(r.Sealed)
	}
	if there {
		p.previous[n] = p.records[n]
	}
	if p.fault == peerRecords || p.fault == localCopies {
		p.keep(n, r)
	}
	p.records[n] = r
	p.index(n, r, there)
}

// index is what the faults of the index do; without one, List looks at the
// records.
func (p *reference) index(n tokencache.Name, r tokencache.Record, there bool) {
	switch p.fault {
	case listForgets: // what was removed and came back
		p.indexed[n] = (!there || p.indexed[n]) && !r.Removed()
	case listLags:
		time.AfterFunc(time.Millisecond, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.indexed[n] = true
		})
	case listGap:
		delete(p.indexed, n)
		p.pause(listGap)
		p.indexed[n] = true
	case listDrops:
		p.indexed[n] = true
		for other := range p.indexed {
			if r.Removed() && other.Owner == n.Owner {
				delete(p.indexed, other)
			}
		}
	}
}

// indexIsWrong tells whether the fault is one of the index.
func (f fault) indexIsWrong() bool {
	return f == listForgets || f == listLags || f == listGap || f == listDrops
}

// folded is the name under which the faults keep a record, such as what a
// case-insensitive collation sees.
func (p *reference) folded(n tokencache.Name) tokencache.Name {
	switch p.fault {
	case nameFolded:
		n.Partition = string(bytes.ToLower([]byte(n.Partition)))
	case ownerNamed:
		n.Partition = n.Owner
	case peerNothing:
		n.Partition = p.local(peerNothing, n.Partition)
	}
	return n
}
