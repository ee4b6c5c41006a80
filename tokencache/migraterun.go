package tokencache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// migration is one call of Migrate.
type migration struct {
	opts     MigrateOptions
	from, to *end
	journal  *end // nil if there is none

	at     migrateCursor // the page that is worked on
	inARow atomic.Int64  // records that have failed
	pace   pace

	mu      sync.Mutex // guards what follows
	result  MigrateResult
	there   int64 // on this page
	missing int64 // on this page
	telling sync.Mutex
	told    time.Time // guarded by telling
}

// end is a provider at one end.
type end struct {
	provider Provider
	caps     Capabilities
	calls    *caller
}

func newEnd(p Provider) *end {
	caps := p.Capabilities()
	return &end{p, caps, &caller{timeout: migrateTimeout, punctual: caps.InProcess || caps.Punctual}}
}

// load tells whether there is a record. The owner's mark is in it in any case.
func (e *end) load(ctx context.Context, name Name) (r Record, there bool, err error) {
	r, err = call(ctx, e.calls, "load", func(ctx context.Context) (Record, error) { return e.provider.Load(ctx, name) })
	if errors.Is(err, ErrNotFound) {
		return r, false, nil
	}
	return r, err == nil, err
}

func (e *end) save(ctx context.Context, name Name, r Record, c Condition) error {
	return e.calls.do(ctx, "save", func(ctx context.Context) error { return e.provider.Save(ctx, name, r, c) })
}

func (e *end) list(ctx context.Context, owner string) ([]Name, error) {
	return call(ctx, e.calls, "list", func(ctx context.Context) ([]Name, error) { return e.caps.Owners.List(ctx, owner) })
}

// page is one of a Lister.
type page struct {
	names []Name
	next  string
}

func (e *end) page(ctx context.Context, cursor string) (page, error) {
	return call(ctx, e.calls, "names", func(ctx context.Context) (p page, err error) {
		p.names, p.next, err = e.caps.Lister.Names(ctx, cursor)
		return p, err
	})
}

// drain waits for calls that were left alone, for a moment.
func (m *migration) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, e := range []*end{m.from, m.to, m.journal} {
		if e != nil {
			e.calls.drained(ctx)
		}
	}
}

// run works on page after page: first the names of the source, and then those of the
// journal, which has those that are gone.
func (m *migration) run(ctx context.Context) error {
	if m.journal != nil {
		if err := m.patiently(ctx, func() error { return m.checkJournal(ctx) }); err != nil {
			return err
		}
	}
	for {
		lister, work := m.from, m.copy
		if m.at.Phase == phaseJournal {
			lister, work = m.journal, m.prune
		}
		var p page
		err := m.patiently(ctx, func() (err error) {
			p, err = lister.page(ctx, m.at.At)
			return err
		})
		if errors.Is(err, ErrCursor) {
			return ErrCursor
		}
		if err != nil {
			return err
		}
		if err := m.workOn(ctx, p.names, work); err != nil {
			m.keepMissing()
			return err
		}
		if m.turn(p.next) {
			return nil
		}
	}
}

// turn turns the page, and tells whether it was the last one.
func (m *migration) turn(next string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at.There += m.there
	m.at.Missing += m.missing
	m.there, m.missing = 0, 0
	m.at.At = next
	if next == "" {
		if m.at.Phase == phaseJournal || m.journal == nil {
			m.result.Cursor = ""
			return true
		}
		m.at.Phase = phaseJournal
	}
	m.result.Cursor = m.at.text()
	return false
}

// keepMissing has the cursor know what is missing from the source, although the page is
// worked on again: what was removed from the target for that is not counted twice.
func (m *migration) keepMissing() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.missing > 0 {
		m.at.Missing += m.missing
		m.result.Cursor = m.at.text()
	}
}

// fate is what has become of a name.
type fate int

const (
	again   fate = iota // others have written meanwhile
	nothing             // it was counted with the names of the source
	copied
	same
	left
	removed
	gone
	refused
	failed
)

// moving is a name that is worked on, through all repetitions.
type moving struct {
	*migration
	name    Name
	mine    []Version // what was put into the target, or may have been
	counted bool      // as missing
}

// workOn works on names, several at once. An error ends all of it.
func (m *migration) workOn(ctx context.Context, names []Name, work func(context.Context, *moving) (fate, error)) error {
	group, all := errgroup.WithContext(ctx)
	queue := make(chan Name)
	for range min(m.opts.AtOnce, len(names)) {
		group.Go(func() error {
			for name := range queue {
				if err := m.workOnOne(all, &moving{migration: m, name: name}, work); err != nil {
					return err
				}
			}
			return nil
		})
	}
	m.feed(all, names, queue)
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return ctx.Err()
}

// feed queues names at the pace, until ctx ends.
func (m *migration) feed(ctx context.Context, names []Name, queue chan<- Name) {
	defer close(queue)
	for _, name := range names {
		if m.pace.wait(ctx, m.opts.RecordsPerSecond) != nil {
			return
		}
		select {
		case queue <- name:
		case <-ctx.Done():
			return
		}
	}
}

func (m *migration) workOnOne(ctx context.Context, mv *moving, work func(context.Context, *moving) (fate, error)) error {
	var f fate
	err := m.patiently(ctx, func() (err error) {
		for range migrateRounds {
			if f, err = work(ctx, mv); err != nil || f != again {
				return err
			}
			sleep(ctx, 5*time.Millisecond)
		}
		return nil
	})
	switch {
	case err == nil && f == again:
		f = failed
	case err == nil:
		m.inARow.Store(0)
	case !errors.Is(err, ErrUnavailable) || ctx.Err() != nil || !m.answers(ctx) || m.inARow.Add(1) >= migrateInARow:
		return err
	default:
		f = failed
	}
	m.count(f)
	m.tell(false)
	return nil
}

// patiently repeats what had no answer, with pauses that grow.
func (m *migration) patiently(ctx context.Context, f func() error) error {
	until := time.Now().Add(m.opts.Patience)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := guarded(f)
		switch {
		case ctx.Err() != nil && err != nil:
			return ctx.Err()
		case !errors.Is(err, ErrUnavailable), errors.Is(err, ErrCursor), time.Now().Add(pause).After(until):
			return err
		}
		sleep(ctx, pause)
	}
}

// answers tells whether all backends answer to something else: what has failed is then
// about one record.
func (m *migration) answers(ctx context.Context) bool {
	name := randomName()
	for _, e := range []*end{m.from, m.to, m.journal} {
		if e == nil {
			continue
		}
		if err := guarded(func() error { _, _, err := e.load(ctx, name); return err }); err != nil {
			return false
		}
	}
	return true
}

// randomName is one that nothing is stored under.
func randomName() Name {
	hash := func() string {
		a, b := NewVersion(), NewVersion()
		return text(append(a[:], b[:]...))
	}
	return Name{Owner: hash(), Partition: hash()}
}

func (m *migration) count(f fate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f == nothing {
		return
	}
	r := &m.result
	r.Names++
	*map[fate]*int64{
		copied: &r.Copied, same: &r.Same, left: &r.Left, removed: &r.Removed, gone: &r.Gone, refused: &r.Refused, failed: &r.Failed,
	}[f]++
}

// tell tells of the progress, if it is time or the end, and returns it.
func (m *migration) tell(last bool) MigrateResult {
	m.mu.Lock()
	result := m.result
	m.mu.Unlock()
	if m.opts.Progress == nil || !last && !m.telling.TryLock() {
		return result
	}
	if last {
		m.telling.Lock()
	}
	defer m.telling.Unlock()
	if now := time.Now(); last || now.Sub(m.told) >= time.Second {
		if !m.told.IsZero() || last {
			m.opts.Progress(result)
		}
		m.told = now
	}
	return result
}

// pace spaces what is begun.
type pace struct{ next time.Time }

// paceSlack is how far it may be behind and catch up.
const paceSlack = 50 * time.Millisecond

// wait waits for its turn. It is used by one goroutine.
func (p *pace) wait(ctx context.Context, perSecond int) error {
	now := time.Now()
	if earliest := now.Add(-paceSlack); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Second / time.Duration(perSecond))
	if ahead := p.next.Sub(now); ahead > time.Millisecond { // a timer is no more exact than that
		t := time.NewTimer(ahead)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
