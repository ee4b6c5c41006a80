package tokencache

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errOtherSignIn is the state of a session whose generation is not the
// partition's: the user signed out, and in again elsewhere.
var errOtherSignIn = fmt.Errorf("%w: this session was signed out; the account has signed in anew", ErrNoTokens)

// opens tells whether the key's generation, if it has one, is the partition's.
func (p *Partition) opens(st *state) bool {
	return p.key.generation == (generation{}) || st.snap == nil || st.snap.generation == p.key.generation
}

// guard hides a partition from a key of another generation.
func (p *Partition) guard(st *state) *state {
	if p.opens(st) {
		return st
	}
	hidden := *st
	hidden.snap, hidden.err = nil, errOtherSignIn
	return &hidden
}

// load returns the partition's state from L1, from what this value has loaded
// before, or from the provider. If the provider does not answer, or with what
// does not open, a copy in L1 that may be behind is better than nothing.
func (p *Partition) load(ctx context.Context) (*state, Source, error) {
	// A copy of another sign-in is no answer: the user may have signed out and in
	// again on another machine.
	if st := p.cache.l1.get(&p.key.id); st != nil && p.opens(st) {
		return st, SourceL1, nil
	}
	st, source, err := p.loadAnew(ctx)
	if errors.Is(err, ErrUnavailable) || err == nil && errors.Is(st.err, ErrUnreadable) {
		if aged := p.cache.l1.aged(&p.key.id); aged != nil && p.opens(aged) {
			p.tell(ctx, Event{Kind: EventDegraded, Detail: detailCopy, Source: SourceL1, Err: err})
			return aged, SourceL1, nil
		}
	}
	if err != nil {
		return nil, SourceNone, err
	}
	return p.guard(st), source, nil
}

// loadAnew is load without L1.
func (p *Partition) loadAnew(ctx context.Context) (*state, Source, error) {
	name, err := p.storageName()
	if err != nil {
		return nil, SourceNone, err
	}
	if e := p.kept(); e != nil {
		return e.st, SourceL1, nil
	}
	if p.cache.hooks.persist { // each access reads for itself, through its own hook
		st, err := p.loadRecord(ctx, name)
		return st, SourceProvider, err
	}
	if l, ok := p.remembered(name); ok {
		return l.state, SourceL1, nil
	}
	st, err := p.fetch(ctx, name)
	return st, SourceProvider, err
}

// loaded is what a shared load brings: the state, and the epoch before it.
type loaded struct {
	state    *state
	epoch    uint64
	panicked any // by the provider or the AEAD
}

// fetch asks the provider, once for all who ask at the same moment. Whoever
// joined a load that a change has overtaken asks again, so that nobody is
// answered with what was out of date when they asked. Nobody tells of changes to a store
// that is local: there, whoever joined one asks again.
func (p *Partition) fetch(ctx context.Context, name Name) (*state, error) {
	for attempt := 0; ; attempt++ {
		joined := true
		l, err := p.cache.loads.do(ctx, name.Partition, func() (loaded, error) {
			joined = false
			return p.read(context.WithoutCancel(ctx), name)
		})
		if l.panicked != nil {
			panic(l.panicked)
		}
		if err != nil {
			return nil, err
		}
		again := l.epoch != p.cache.l1.epoch(name) || joined && attempt == 0 && p.cache.store.caps.Local
		if !again || attempt == 2 {
			p.remember(l)
			return l.state, nil
		}
	}
}

// read is the load that others may join. It is detached from the request, as
// they must not fail because the first of them has left; the store bounds it.
func (p *Partition) read(ctx context.Context, name Name) (l loaded, err error) {
	defer func() {
		if r := recover(); r != nil {
			l.panicked = r // for the callers, where it can be recovered
		}
	}()
	if p.cache.begin() == nil { // after Close there is still reading, and nobody to wait
		defer p.cache.work.Done()
	}
	// Whoever came too late to join the last load finds its outcome.
	if l, ok := p.remembered(name); ok {
		return l, nil
	}
	l.epoch = p.cache.l1.epoch(name)
	if l.state, err = p.loadRecord(ctx, name); err != nil {
		return loaded{}, err
	}
	if e := p.kept(); e != nil {
		l.state = e.st // it came meanwhile, and is newer than what is stored
		return l, nil
	}
	if p.cache.unsaved.get(p.key.id) == nil { // else, it is behind what another session is answered with
		p.cache.l1.keep(p.key.id, l.state, l.epoch)
	}
	p.remember(l)
	p.upkeep(ctx, l.state)
	return l, nil
}

// remembered returns what this value loaded before, unless it is too old or
// anything has changed since.
func (p *Partition) remembered(name Name) (loaded, bool) {
	m := p.remembering()
	defer m.mu.Unlock()
	l1 := p.cache.l1
	if m.view.state == nil || time.Since(m.since) >= m.view.state.life(l1.maxAge) || m.view.epoch != l1.epoch(name) {
		return loaded{}, false
	}
	return m.view, true
}

func (p *Partition) remember(l loaded) {
	m := p.remembering()
	defer m.mu.Unlock()
	m.view, m.since = l, time.Now()
}

func (p *Partition) viewed() loaded {
	m := p.remembering()
	defer m.mu.Unlock()
	return m.view
}
