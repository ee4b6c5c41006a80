package providertest_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// TestFaultsConform: a provider behind Faults, none of them set, keeps the
// contract, and so does one that is slow.
func TestFaultsConform(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]providertest.Fault{"none": nil, "slow": providertest.Slow(time.Microsecond)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front := func(p *reference) tokencache.Provider {
				f := providertest.NewFaults(p)
				f.Set(fault)
				return inspectable{f, p}
			}
			providertest.Run(t, providertest.Harness{
				New: func(*testing.T) tokencache.Provider { return front(newReference(none)) },
				Peer: func(_ *testing.T, first tokencache.Provider) tokencache.Provider {
					return front(&reference{store: first.(inspectable).behind.store})
				},
				Around: synctest.Test,
			})
		})
	}
}

// inspectable remembers what is behind Faults, for a Peer over the same store.
type inspectable struct {
	*providertest.Faults
	behind *reference
}

// some offers what it is told to.
type some struct {
	*reference
	offers tokencache.Capabilities
}

func (s some) Capabilities() tokencache.Capabilities { return s.offers }

// TestFaultsOffer: what the other offers, and nothing else. A fault may be deaf, so
// that nothing behind it is punctual.
func TestFaultsOffer(t *testing.T) {
	t.Parallel()
	all := newReference(none).Capabilities()
	all.Punctual, all.Encrypts, all.Local = true, true, true
	fields := reflect.TypeFor[tokencache.Capabilities]()
	for i := range fields.NumField() {
		var offers tokencache.Capabilities
		reflect.ValueOf(&offers).Elem().Field(i).Set(reflect.ValueOf(all).Field(i))
		got := reflect.ValueOf(providertest.NewFaults(some{newReference(none), offers}).Capabilities())
		for j := range fields.NumField() {
			if offered := !got.Field(j).IsZero(); offered != (i == j && fields.Field(i).Name != "Punctual") {
				t.Errorf("of a provider with %s only: offers %s: %v", fields.Field(i).Name, fields.Field(j).Name, offered)
			}
		}
	}
}

// bench is a provider behind faults, with something stored and a lease held.
type bench struct {
	*providertest.Faults
	behind *reference
	name   tokencache.Name
	record tokencache.Record
	lease  tokencache.Lease
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{
		behind: newReference(none),
		name:   tokencache.Name{Owner: "owner", Partition: "partition"},
		record: tokencache.Record{Sealed: []byte("sealed"), Version: tokencache.NewVersion()},
	}
	b.Faults = providertest.NewFaults(b.behind)
	if err := b.Save(t.Context(), b.name, b.record, tokencache.Always()); err != nil {
		t.Fatalf("Save: %v", err)
	}
	var err error
	if b.lease, err = b.Capabilities().Leaser.Acquire(t.Context(), b.name, 1000*time.Hour); err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	return b
}

// calls has one call of each operation that succeeds as long as there is no
// fault, and again when repeated.
func (b *bench) calls() map[providertest.Op]func(context.Context) error {
	c := b.Capabilities()
	return map[providertest.Op]func(context.Context) error{
		providertest.OpLoad: func(ctx context.Context) error { _, err := b.Load(ctx, b.name); return err },
		providertest.OpSave: func(ctx context.Context) error {
			return b.Save(ctx, b.name, b.record, tokencache.Always())
		},
		providertest.OpAcquire: func(ctx context.Context) error {
			_, err := c.Leaser.Acquire(ctx, tokencache.Name{Partition: tokencache.NewVersion().String()}, time.Hour)
			return err
		},
		providertest.OpRenew:   func(ctx context.Context) error { return b.lease.Renew(ctx, time.Hour) },
		providertest.OpRelease: func(ctx context.Context) error { return b.lease.Release(ctx) },
		providertest.OpTouch: func(ctx context.Context) error {
			return c.Toucher.Touch(ctx, b.name, b.record.Version, time.Time{})
		},
		providertest.OpSetMark: func(ctx context.Context) error {
			return c.Owners.SetMark(ctx, "another", tokencache.NewVersion(), time.Time{})
		},
		providertest.OpList: func(ctx context.Context) error { _, err := c.Owners.List(ctx, b.name.Owner); return err },
		providertest.OpWatch: func(ctx context.Context) error {
			ctx, stop := context.WithCancel(ctx)
			defer stop()
			err := c.Watcher.Watch(ctx, func(tokencache.Change) { stop() })
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
		providertest.OpSweep: func(ctx context.Context) error { _, err := c.Sweeper.Sweep(ctx); return err },
		providertest.OpPing:  func(ctx context.Context) error { return c.Pinger.Ping(ctx) },
		providertest.OpNames: func(ctx context.Context) error { _, _, err := c.Lister.Names(ctx, ""); return err },
	}
}

// order is that of the operations: Release comes after Renew.
var order = []providertest.Op{
	providertest.OpLoad, providertest.OpSave, providertest.OpAcquire, providertest.OpRenew, providertest.OpRelease,
	providertest.OpTouch, providertest.OpSetMark, providertest.OpList, providertest.OpWatch, providertest.OpSweep,
	providertest.OpPing, providertest.OpNames,
}

// TestFaultsOps sets a fault on each operation alone: exactly that one meets it,
// and all are counted.
func TestFaultsOps(t *testing.T) {
	t.Parallel()
	for _, faulty := range order {
		t.Run(string(faulty), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.Set(providertest.Down(), faulty)
			calls := b.calls()
			if len(calls) != len(order) {
				t.Fatalf("%d of %d operations are tried", len(calls), len(order))
			}
			for _, op := range order {
				before := b.Calls(op)
				err := calls[op](t.Context())
				if op == faulty && !errors.Is(err, providertest.ErrFault) {
					t.Errorf("%s: got error %v, want ErrFault", op, err)
				}
				if op != faulty && err != nil {
					t.Errorf("%s, which has no fault: got error %v", op, err)
				}
				if got := b.Calls(op) - before; got != 1 {
					t.Errorf("%s: counted %d calls, want 1", op, got)
				}
			}
			if got, want := b.Calls(), len(order)+2; got != want {
				t.Errorf("counted %d calls in all, want %d", got, want)
			}
		})
	}
}

// TestFaultsAll: without names, Set and Clear concern every operation.
func TestFaultsAll(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Set(providertest.Down())
	for op, call := range b.calls() {
		if err := call(t.Context()); !errors.Is(err, providertest.ErrFault) {
			t.Errorf("%s, down: got error %v, want ErrFault", op, err)
		}
	}
	b.Clear(providertest.OpPing)
	if err := b.Capabilities().Pinger.Ping(t.Context()); err != nil {
		t.Errorf("Ping, cleared: %v", err)
	}
	if _, err := b.Load(t.Context(), b.name); !errors.Is(err, providertest.ErrFault) {
		t.Errorf("Load, not cleared: got error %v, want ErrFault", err)
	}
	b.Clear()
	calls := b.calls()
	for _, op := range order {
		if err := calls[op](t.Context()); err != nil {
			t.Errorf("%s, cleared: %v", op, err)
		}
	}
}

func TestFaultsUnknownOp(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("Set of an operation that does not exist did not panic")
		}
	}()
	newBench(t).Set(providertest.Down(), "lode")
}

// TestOwnFault: a function decides by what it is told, and may do without the
// call, change what it saves, or acknowledge what it did not do.
func TestOwnFault(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	errMine := errors.New("mine")
	next := tokencache.Record{Sealed: []byte("next"), Version: tokencache.NewVersion()}
	save := func() error { return b.Save(t.Context(), b.name, next, tokencache.Always()) }

	b.Set(func(ctx context.Context, c *providertest.Call) error {
		if c.Op == providertest.OpSave && c.Name == b.name && bytes.Equal(c.Record.Sealed, next.Sealed) {
			return errMine
		}
		return c.Do(ctx)
	})
	if err := save(); !errors.Is(err, errMine) {
		t.Errorf("Save: got error %v, want the fault's", err)
	}

	b.Set(func(context.Context, *providertest.Call) error { return nil })
	if err := save(); err != nil {
		t.Errorf("Save that is acknowledged and lost: %v", err)
	}
	if lease, err := b.Capabilities().Leaser.Acquire(t.Context(), b.name, time.Hour); lease != nil || err == nil {
		t.Errorf("Acquire that never happened: got lease %v, error %v", lease, err)
	}
	if got, err := b.behind.Load(t.Context(), b.name); err != nil || got.Version != b.record.Version {
		t.Errorf("stored is version %v, error %v; want the one before", got.Version, err)
	}

	b.Set(func(ctx context.Context, c *providertest.Call) error {
		c.Record.Sealed[0] = 'N'
		return c.Do(ctx)
	}, providertest.OpSave)
	if err := save(); err != nil || string(next.Sealed) != "next" {
		t.Errorf("Save that is changed: error %v, the caller's bytes are %q", err, next.Sealed)
	}
	if got, err := b.behind.Load(t.Context(), b.name); err != nil || string(got.Sealed) != "Next" {
		t.Errorf("stored is %q, error %v; want what the fault made of it", got.Sealed, err)
	}
}

// TestFaultsRace sets, clears, counts and calls at once; the race detector and
// the count are the test.
func TestFaultsRace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const callers, each = 50, 40
	before := b.Calls(providertest.OpLoad)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				_, err := b.Load(t.Context(), b.name)
				if err != nil && !errors.Is(err, providertest.ErrFault) {
					t.Errorf("Load: %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			b.Set(providertest.Hang())
			b.Set(providertest.Randomly(0.5, 1, providertest.LoseReplies()), providertest.OpLoad)
			b.Set(providertest.AlterBytes())
			b.Clear()
		}
	})
	wg.Wait()
	if got := b.Calls(providertest.OpLoad) - before; got != callers*each {
		t.Errorf("counted %d calls, want %d", got, callers*each)
	}
}
