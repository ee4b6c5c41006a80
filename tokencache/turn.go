package tokencache

import (
	"context"
	"errors"
	"time"
)

// run takes this process's lock for the flight, so that one of the partition's
// flights at a time talks to the server.
func (f *flight) run(ctx context.Context) (Token, error) {
	unlock, err := f.p.cache.locks.lock(ctx, f.name.Partition)
	if err != nil {
		return Token{}, busy(err)
	}
	defer unlock()
	if waited := time.Since(f.began); waited > time.Millisecond {
		f.p.tell(ctx, Event{Kind: EventWait, Detail: detailProcess, Duration: waited})
	}
	for range leaseAttempts {
		tok, err := f.turn(ctx)
		if !errors.Is(err, errLeaseLost) {
			return tok, err
		}
	}
	return Token{}, ErrBusy
}

// errLeaseLost says that the lease was lost before anything was spent: another
// machine may be at it.
var errLeaseLost = errors.New("tokencache: the lease was lost")

// turn is what is done under one lease.
func (f *flight) turn(ctx context.Context) (tok Token, err error) {
	if f.lease, err = f.acquire(ctx); err != nil {
		if !f.p.selfSufficient(err) {
			return Token{}, err
		}
		f.lease = &held{end: func() {}}
	}
	defer func() {
		if !f.kept {
			f.lease.end()
		}
	}()
	// Twice: if the server refuses a refresh token that was replaced meanwhile,
	// by a machine that had no lease to wait for, the newer one is used.
	if !f.p.key.selfRenewing() {
		f.p.cache.settling.settle(ctx)
	}
	for range 2 {
		tok, done, err := f.read(ctx)
		if err != nil || done {
			return tok, busy(err)
		}
		if !f.lease.holds() {
			return Token{}, errLeaseLost
		}
		tok, err = f.spend(ctx)
		if !errors.Is(err, errReplaced) {
			return tok, err
		}
	}
	return Token{}, ErrInvalidGrant
}

// selfSufficient tells whether tokens can be obtained although the provider does
// not answer: no stored refresh token is needed for them.
func (p *Partition) selfSufficient(err error) bool {
	return p.key.selfRenewing() && errors.Is(err, ErrUnavailable)
}

// read loads the partition from the provider, never from L1, and tells whether
// the answer is there already.
func (f *flight) read(ctx context.Context) (Token, bool, error) {
	f.alone = false // perhaps the provider answers by now
	if err := f.p.flush(ctx); err != nil {
		return f.readAlone(ctx, err)
	}
	epoch := f.p.cache.l1.epoch(f.name)
	st, err := f.p.loadRecord(ctx, f.name)
	if err != nil {
		return f.readAlone(ctx, err)
	}
	f.p.cache.l1.keep(f.p.key.id, st, epoch)
	f.p.remember(loaded{state: st, epoch: epoch})
	f.state = f.p.guard(st)
	if f.state.err != nil {
		if f.p.renewable(f.state) {
			return Token{}, false, nil
		}
		return Token{}, false, f.state.err
	}
	return f.find(ctx)
}

// readAlone is read while the provider does not answer: what is kept to be saved
// may have the answer, and what it has no other.
func (f *flight) readAlone(ctx context.Context, err error) (Token, bool, error) {
	f.state = &state{name: f.name, err: ErrNoTokens}
	if e := f.p.kept(); e != nil {
		f.state = e.st
		if tok, done, ferr := f.find(ctx); ferr != nil || done {
			return tok, done, ferr
		}
	}
	if !f.p.selfSufficient(err) {
		return Token{}, false, err
	}
	f.alone = true
	return Token{}, false, nil
}

// find looks for the answer in what was read.
func (f *flight) find(ctx context.Context) (Token, bool, error) {
	q := f.p.query(&f.req)
	tok, fresh, err := f.state.snap.find(&q, time.Now())
	if err != nil {
		return Token{}, false, ErrUnreadable
	}
	tok.Source = SourceProvider
	if fresh != isFresh {
		return Token{}, false, nil
	}
	f.p.tell(ctx, found(tok, fresh)) // another machine has done the work
	return tok, true, nil
}
