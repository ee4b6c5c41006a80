package tokencache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// unsaved keeps what the authorization server has issued and the provider could
// not store, and stores it as soon as the provider answers. Until then this
// process answers with it, and spends none of the partition's refresh tokens:
// the stored one has been spent already.
type unsaved struct {
	most int // entries

	mu      sync.Mutex
	entries map[keyID]*unsavedEntry
	size    int
	working bool         // there is a goroutine that stores them
	count   atomic.Int64 // len(entries), for those who need not look
}

// unsavedEntry is one partition's. All but over is set once.
type unsavedEntry struct {
	p    *Partition
	next changeFunc
	// steps is how many changes next is composed of.
	steps int
	st    *state    // what this process answers with
	ends  time.Time // when nobody can use it any more
	// leases are still held, so that no other machine spends what is stored.
	leases []*held

	turn chan struct{} // holds one element while it is being stored
	over bool          // guarded by turn
}

// What is kept while the provider does not answer is bounded by these.
const (
	unsavedEntries = 4096
	unsavedBytes   = 64 << 20
	unsavedSteps   = 256 // changes of one partition
)

// get returns what is kept of the partition, nil if nothing is.
func (u *unsaved) get(id keyID) *unsavedEntry {
	if u.count.Load() == 0 {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.entries[id]
}

// errPartial is a miss in what is kept of a partition that could not be loaded.
var errPartial = unavailable("load", errors.New("only a part of the partition is known"))

var errUnsavedFull = errors.New("tokencache: too many tokens wait to be stored")

// put keeps the entry, in place of an earlier one that it continues.
func (u *unsaved) put(e *unsavedEntry) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	id := e.p.key.id
	size := u.size + e.st.snap.size()
	if before := u.entries[id]; before != nil {
		size -= before.st.snap.size()
	} else if len(u.entries) >= u.most {
		return errUnsavedFull
	}
	if size > unsavedBytes {
		return errUnsavedFull
	}
	if u.entries == nil {
		u.entries = map[keyID]*unsavedEntry{}
	}
	u.entries[id], u.size = e, size
	u.count.Store(int64(len(u.entries)))
	return nil
}

// ofOwner returns what is kept of the owner's partitions.
func (u *unsaved) ofOwner(owner string) (list []*unsavedEntry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.entries {
		if e.st.name.Owner == owner {
			list = append(list, e)
		}
	}
	return list
}

// remove forgets the entry, unless another has come in its place.
func (u *unsaved) remove(e *unsavedEntry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.entries[e.p.key.id] != e {
		return
	}
	delete(u.entries, e.p.key.id)
	u.size -= e.st.snap.size()
	u.count.Store(int64(len(u.entries)))
}

// work tells whether the caller is to start the goroutine.
func (u *unsaved) work() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	start := !u.working
	u.working = true
	return start
}

// pending returns what there is to do; if that is nothing, the work is over.
func (u *unsaved) pending() []*unsavedEntry {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := make([]*unsavedEntry, 0, len(u.entries))
	for _, e := range u.entries {
		list = append(list, e)
	}
	u.working = len(list) > 0
	return list
}

// keep keeps the change that next makes to base, to store it later. It returns
// the state that this process answers with meanwhile. The caller is a flight: it
// holds the partition's lock of this process.
func (p *Partition) keep(ctx context.Context, base *state, next changeFunc, lease *held) (*state, error) {
	e := &unsavedEntry{p: p, next: next, steps: 1, leases: []*held{lease}, turn: make(chan struct{}, 1)}
	err := e.begin(base)
	if err != nil {
		p.tell(ctx, Event{Kind: EventUnsaved, Detail: detailDropped, Err: err})
		return nil, err
	}
	p.cache.l1.drop(base.name)
	p.tell(ctx, Event{Kind: EventUnsaved, Detail: detailKept})
	if p.cache.unsaved.work() {
		p.cache.work.Add(1)    // the flight holds one, so that Close is still waiting
		go p.cache.saveLater() //nolint:contextcheck,gosec // it is nobody's request: see Close
	}
	return e.st, nil
}

// begin puts the entry in its place, continuing one that is there.
func (e *unsavedEntry) begin(base *state) (err error) {
	u, last := &e.p.cache.unsaved, e.next
	before := u.get(e.p.key.id)
	if before != nil {
		before.turn <- struct{}{} // it is not being stored now
		defer func() { <-before.turn }()
		if !before.over {
			if before.steps == unsavedSteps {
				return errUnsavedFull
			}
			base, e.steps = before.st, before.steps+1
			e.next = compose(before.next, e.next)
			e.leases = append(e.leases, before.leases...)
			defer func() { before.over = err == nil }()
		}
	}
	if e.st, err = advance(base, last, time.Now()); err != nil {
		return err
	}
	e.ends = e.p.expiry(e.st.snap, time.Now())
	return u.put(e)
}

// advance returns the state that the change leads to, as if it were stored.
func advance(base *state, next changeFunc, now time.Time) (*state, error) {
	m, doc, err := next(base)
	if err != nil {
		return nil, err
	}
	m.mark = base.mark
	plain, err := encodePlain(m, doc, now)
	if err != nil {
		return nil, err
	}
	snap, err := parsePlain(plain)
	return &state{
		name: base.name, found: true, version: base.version, mark: base.mark, snap: snap, partial: base.partial,
	}, err
}

// compose makes one change of two. If the first comes too late, the second may
// still be in time: it was made without knowing what is stored.
func compose(first, second changeFunc) changeFunc {
	return func(now *state) (meta, *document, error) {
		between, err := advance(now, first, time.Now())
		if errors.Is(err, ErrRemoved) {
			return second(now)
		}
		if err != nil {
			return meta{}, nil, err
		}
		return second(between)
	}
}

// saveLater stores what is kept. It ends when nothing is left; see Close.
func (c *Cache) saveLater() {
	defer c.work.Done()
	ctx := context.Background()
	for {
		list := c.unsaved.pending()
		if len(list) == 0 {
			return
		}
		sleep(ctx, unsavedRetry)
		for _, e := range list {
			if err := e.store(ctx); errors.Is(err, ErrUnavailable) {
				break // so is everybody else's; the next round begins elsewhere
			}
		}
	}
}

// kept is what is kept of the partition, nil if nothing is that the key opens.
func (p *Partition) kept() *unsavedEntry {
	if e := p.cache.unsaved.get(p.key.id); e != nil && p.opens(e.st) {
		return e
	}
	return nil
}

// flush stores what is kept of the partition, if anything is. With an error it
// is kept on.
func (p *Partition) flush(ctx context.Context) error {
	if e := p.cache.unsaved.get(p.key.id); e != nil {
		return e.store(ctx)
	}
	return nil
}

// store tries once. It reports what the provider could not do; what became of the
// tokens otherwise is an event. The end of ctx ends the wait for one's turn, and
// not the attempt, which is nobody's own.
func (e *unsavedEntry) store(ctx context.Context) error {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if e.over {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	err := guarded(func() error { return e.commit(ctx) })
	event := Event{Kind: EventUnsaved, Detail: detailSaved, Err: err}
	switch {
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrConflict):
		if time.Now().Before(e.ends) {
			return unavailable("save", err)
		}
		event.Detail = detailDropped
	case err != nil:
		event.Detail = detailDropped
	}
	e.over = true
	e.p.cache.unsaved.remove(e)
	if err != nil {
		e.p.cache.l1.drop(e.st.name) // whoever remembers it asks again
	}
	e.p.tell(ctx, event)
	for _, lease := range e.leases {
		lease.end()
	}
	return nil
}

// commit is an access of its own: what is stored now is read again.
func (e *unsavedEntry) commit(ctx context.Context) (err error) {
	ctx, access, err := e.p.begin(ctx, nil)
	var saved *state
	defer func() { e.p.end(ctx, access, saved.snapshot(), SourceNone, err) }()
	if err != nil {
		return err
	}
	st, err := e.p.loadRecord(ctx, e.st.name)
	if err != nil {
		return err
	}
	saved, err = e.p.commit(ctx, flightSaveTimeout, access, st, e.next)
	return err
}
