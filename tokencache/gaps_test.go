package tokencache_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// mortal is a machine that stops dead at one point of a refresh: from then on,
// none of its calls goes on until it is revived.
type mortal struct {
	faults *providertest.Faults
	gap    string
	once   sync.Once
	died   chan struct{} // closed when it stops
	alive  chan struct{} // closed when it is revived
}

// The points of a refresh, in order.
const (
	beforeLease    = "before the lease"
	afterLease     = "with the lease"
	beforeRead     = "before reading again"
	afterRead      = "after reading again"
	beforeRequest  = "before the request reaches the server"
	beforeAnswer   = "before the answer arrives"
	beforeSave     = "before the save"
	afterSave      = "after the save"
	afterRelease   = "with the lease given back"
	betweenRenewal = "at a renewal, while the server takes its time"
)

// stop is a fault that stops the machine at its gap, and everything after it.
func (m *mortal) stop(_ context.Context, at string, do func() error) error {
	if at == m.gap {
		m.once.Do(func() { close(m.died) })
	}
	select {
	case <-m.died:
		<-m.alive
	default:
	}
	return do()
}

func (m *mortal) fault(ctx context.Context, call *providertest.Call) error {
	before := map[providertest.Op]string{
		providertest.OpAcquire: beforeLease, providertest.OpLoad: beforeRead,
		providertest.OpSave: beforeSave, providertest.OpRenew: betweenRenewal,
	}
	after := map[providertest.Op]string{
		providertest.OpAcquire: afterLease, providertest.OpLoad: afterRead,
		providertest.OpSave: afterSave, providertest.OpRelease: afterRelease,
	}
	return m.stop(ctx, before[call.Op], func() error {
		err := call.Do(ctx)
		_ = m.stop(ctx, after[call.Op], func() error { return nil })
		return err
	})
}

// server is the authority as the machine talks to it. A client whose context
// has ended sends nothing.
func (m *mortal) server(a *authority) serverFunc {
	return func(ctx context.Context, rt tokencache.Secret, req tokencache.Request) (g tokencache.Grant, err error) {
		err = m.stop(ctx, beforeRequest, func() error {
			if ctx.Err() != nil {
				return &tokencache.ServerError{Err: ctx.Err()}
			}
			time.Sleep(5 * time.Second) // long enough for a renewal
			g, err = a.Refresh(ctx, rt, req)
			return m.stop(ctx, beforeAnswer, func() error { return err })
		})
		return g, err
	}
}

// A machine stops at each point of a refresh. The user is still signed in through
// another, but for the one gap that nobody can close: the server has rotated the
// refresh token, and nobody has stored the new one. When the machine wakes up
// again later, it spoils nothing.
func TestMachineStopsDuringARefresh(t *testing.T) {
	t.Parallel()
	for gap, survives := range map[string]bool{
		beforeLease: true, afterLease: true, beforeRead: true, afterRead: true, beforeRequest: true,
		betweenRenewal: false, beforeAnswer: false, beforeSave: false,
		afterSave: true, afterRelease: true,
	} {
		t.Run(gap, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { stopAt(t, gap, survives) })
		})
	}
}

func stopAt(t *testing.T, gap string, survives bool) {
	t.Helper()
	a, store := newAuthority(), newProvider(t)
	m := &mortal{faults: providertest.NewFaults(store), gap: gap, died: make(chan struct{}), alive: make(chan struct{})}
	stops := newCache(t, m.faults, nil)
	lives := newCache(t, store, nil)
	ticket := mustSignIn(t, lives, a, "read")
	mustExpire(t, lives.Partition(ticket.Key()))
	if err := stops.Partition(ticket.Key()).Check(t.Context()); err != nil { // now it has a copy: the next load is the flight's
		t.Fatal(err)
	}
	m.faults.Set(m.fault, providertest.OpAcquire, providertest.OpLoad, providertest.OpSave,
		providertest.OpRenew, providertest.OpRelease)
	go func() {
		_, _ = stops.Partition(ticket.Key()).Token(t.Context(), request("read"), m.server(a))
	}()
	<-m.died

	began := time.Now()
	_, err := lives.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
	switch {
	case survives && err != nil:
		t.Errorf("the user was signed out: %v", err)
	case !survives && !errors.Is(err, tokencache.ErrInvalidGrant):
		t.Errorf("got %v; the refresh token was spent, and the new one is with the machine that stopped", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the other machine waited for %v, want little more than the life of a lease", took)
	}
	a.reused.Store(0) // by the other machine, in the gap that nobody can close
	time.Sleep(time.Minute)
	close(m.alive)
	synctest.Wait()
	time.Sleep(time.Minute)
	if !survives {
		ticket = mustSignIn(t, lives, a, "read")
	}
	for _, scope := range []string{"read", "one", "two"} {
		mustToken(t, lives.Partition(ticket.Key()), a, scope)
		mustToken(t, stops.Partition(ticket.Key()), a, scope+" again")
	}
	a.wantRefreshes(t, a.refreshes.Load()) // none was reused
}
