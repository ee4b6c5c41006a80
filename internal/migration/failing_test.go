package migration_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

var fast = 1_000_000 // records a second

// A migration may end with any of its calls, whatever became of that, and goes on from
// its cursor.
func TestInterruptedAnywhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := newMemory(t)
		stored := put(t, from, 280) // two pages
		for _, n := range stored[:20] {
			check(t, from.Save(t.Context(), n, tokencache.Record{Version: tokencache.NewVersion(), Expires: time.Now().Add(time.Hour)}, tokencache.Always()))
		}
		for _, journaled := range []bool{false, true} {
			ended := false
			for call := int64(1); !ended; call += 131 {
				ended = interrupted(t, from, call, journaled)
			}
		}
	})
}

// interrupted ends one with the call, and tells whether there are fewer.
func interrupted(t *testing.T, from tokencache.Provider, call int64, journaled bool) (ended bool) {
	t.Helper()
	to, journal := newMemory(t), newMemory(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls atomic.Int64
	counted := func(p tokencache.Provider) tokencache.Provider {
		f := providertest.NewFaults(p)
		f.Set(func(ctx context.Context, c *providertest.Call) error {
			mine := calls.Add(1)
			if mine >= call && mine%2 == 0 {
				cancel()
				return context.Canceled // not carried out
			}
			err := c.Do(ctx)
			if mine >= call {
				cancel()
				return context.Canceled // carried out, and nobody hears of it
			}
			return err
		})
		return f
	}
	o := &tokencache.MigrateOptions{RecordsPerSecond: fast}
	if journaled {
		o.Journal = counted(journal)
	}
	r, err := tokencache.Migrate(ctx, counted(from), counted(to), o)
	if err == nil {
		return true
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("call %d: error %v", call, err)
	}
	if o.Cursor = r.Cursor; journaled {
		o.Journal = journal
	}
	migrate(t, from, to, o)
	wantSame(t, from, to)
	return false
}

// Both backends, and the journal, fail now and then in all ways: nothing is lost, and
// nothing is told twice.
func TestBackendsThatFail(t *testing.T) {
	t.Parallel()
	lost := func(ctx context.Context, c *providertest.Call) error {
		_ = c.Do(ctx)
		return providertest.ErrFault
	}
	for _, journaled := range []bool{false, true} {
		t.Run(fmt.Sprint("journal ", journaled), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				from, to := newMemory(t), newMemory(t)
				put(t, from, 300)
				failing := func(p tokencache.Provider, seed uint64) tokencache.Provider {
					f := providertest.NewFaults(p)
					f.Set(providertest.Randomly(0.1, seed, providertest.Down()))
					f.Set(providertest.Randomly(0.2, seed, lost), providertest.OpSave)
					f.Set(providertest.Randomly(0.3, seed, providertest.Hang()), providertest.OpNames)
					return f
				}
				o := &tokencache.MigrateOptions{RecordsPerSecond: fast, Patience: time.Minute}
				if journaled {
					o.Journal = failing(newMemory(t), 3)
				}
				r := migrate(t, failing(from, 1), failing(to, 2), o)
				if r.Copied != 300 {
					t.Errorf("%+v, want 300 copied", r)
				}
				wantSame(t, from, to)
			})
		})
	}
}

// An outage that goes on ends the migration after its patience, not at once, and not
// much later. What does not answer is left when the context ends.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]providertest.Fault{
		"down": providertest.Down(), "hangs": providertest.Hang(), "deaf": providertest.HangDeaf(time.Minute),
		"panics": func(context.Context, *providertest.Call) error { panic("marker-secret") },
	} {
		for _, op := range []providertest.Op{providertest.OpLoad, providertest.OpSave, providertest.OpNames} {
			t.Run(name+" "+string(op), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					from, to := newMemory(t), newMemory(t)
					put(t, from, 300)
					source, target := providertest.NewFaults(away{from}), providertest.NewFaults(away{to})
					for _, f := range []*providertest.Faults{source, target} {
						f.Set(fault, op)
					}
					o := &tokencache.MigrateOptions{RecordsPerSecond: fast, Patience: 20 * time.Second}
					began := time.Now()
					r, err := tokencache.Migrate(t.Context(), source, target, o)
					took := time.Since(began)
					if !errors.Is(err, tokencache.ErrUnavailable) || took < 10*time.Second || took > time.Minute {
						t.Errorf("after %v: %+v, error %v", took, r, err)
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					began = time.Now()
					_, err = tokencache.Migrate(ctx, source, target, o)
					if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 3*time.Second {
						t.Errorf("cut short after %v: error %v", took, err)
					}
					source.Clear()
					target.Clear()
					o.Cursor = r.Cursor
					migrate(t, source, target, o)
					wantSame(t, from, to)
					time.Sleep(time.Minute) // what was deaf ends
				})
			})
		}
	}
}

// One record that cannot be saved does not keep the others. The error has no name in it.
func TestOneBadRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from, to := newMemory(t), newMemory(t)
		stored := put(t, from, 300)
		target := providertest.NewFaults(to)
		var damaged atomic.Int64
		target.Set(func(ctx context.Context, c *providertest.Call) error {
			switch c.Name {
			case stored[7]:
				return errors.New("no")
			case stored[8]: // the target keeps something else than it was given
				c.Record.Sealed = append(c.Record.Sealed, 'x')
			case stored[9]: // the same, once
				if damaged.Add(1) == 1 {
					c.Record.Sealed = append(c.Record.Sealed, 'x')
				}
			case stored[10]: // and another expiry
				c.Record.Expires = c.Record.Expires.Add(-time.Minute)
			case stored[11]:
				return tokencache.ErrTooLarge
			}
			return c.Do(ctx)
		}, providertest.OpSave)
		r, err := tokencache.Migrate(t.Context(), from, target, &tokencache.MigrateOptions{RecordsPerSecond: fast})
		if err == nil || r.Failed != 4 || r.Copied != 296 || r.Cursor != "" {
			t.Errorf("%+v, error %v; want 4 that failed", r, err)
		}
		if got, err := to.Load(t.Context(), stored[9]); err != nil || len(got.Sealed) > 20 {
			t.Errorf("what was damaged once: error %v", err)
		}
	})
}

// What is not encrypted stays in the process, and what is no record of a Cache where it
// is.
func TestUnencrypted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	a, from := newAuthority(), newMemory(t)
	ticket := a.signIn(t, newCacheWith(t, from, &tokencache.Options{}), "user", "")
	put(t, from, 3)
	for _, b := range [][]byte{[]byte("foreign"), []byte("CC"), []byte("CC\x02\x01 later"), []byte("CC\x01\x02 other")} {
		n := tokencache.Name{Owner: newHash(), Partition: newHash()}
		check(t, from.Save(t.Context(), n, tokencache.Record{Sealed: b, Version: tokencache.NewVersion()}, tokencache.Condition{}))
	}
	for _, kind := range []string{"redis", "postgres", "sqlite"} {
		to := l.open(t, kind)
		r, err := tokencache.Migrate(t.Context(), from, to, nil)
		if err == nil || r.Refused != 5 || r.Copied != 3 || r.Cursor != "" {
			t.Errorf("%s: %+v, error %v; want 5 refused", kind, r, err)
		}
		if got := len(names(t, to)); got != 3 {
			t.Errorf("%s: %d records are in the target, want 3", kind, got)
		}
		r, err = tokencache.Migrate(t.Context(), from, to, &tokencache.MigrateOptions{AllowUnencryptedStorage: true})
		if err == nil || r.Refused != 4 || r.Copied != 1 {
			t.Errorf("%s, allowed: %+v, error %v", kind, r, err)
		}
		c := newCacheWith(t, to, &tokencache.Options{AllowUnencryptedStorage: true})
		a.refresh(t, c, ticket)
		ticket = a.signIn(t, newCacheWith(t, from, &tokencache.Options{}), "user", "") // the next target's is not spent
	}
	to := newMemory(t)
	if r, _ := tokencache.Migrate(t.Context(), from, to, nil); r.Refused != 4 || r.Copied != 4 {
		t.Errorf("within the process: %+v", r)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	p := newMemory(t)
	for name, o := range map[string]*tokencache.MigrateOptions{
		"rate": {RecordsPerSecond: -1}, "at once": {AtOnce: -1}, "too many": {AtOnce: 257}, "patience": {Patience: -1},
	} {
		if _, err := tokencache.Migrate(t.Context(), p, newMemory(t), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := tokencache.Migrate(t.Context(), nil, p, nil); err == nil {
		t.Error("no source, and no error")
	}
	for from, o := range map[tokencache.Provider]*tokencache.MigrateOptions{
		bare{p}: nil, p: {Journal: bare{newMemory(t)}},
	} {
		if _, err := tokencache.Migrate(t.Context(), from, newMemory(t), o); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("without a Lister: error %v", err)
		}
	}
	to := newMemory(t)
	put(t, p, 3)
	for _, journal := range []tokencache.Provider{p, to} {
		if _, err := tokencache.Migrate(t.Context(), p, to, &tokencache.MigrateOptions{Journal: journal}); err == nil {
			t.Error("a journal in the source or the target, and no error")
		}
	}
	if r := migrate(t, p, to, nil); r.Copied != 3 {
		t.Errorf("%+v, want 3 copied", r)
	}
}

// bare offers nothing.
type bare struct{ tokencache.Provider }

func (bare) Capabilities() tokencache.Capabilities { return tokencache.Capabilities{InProcess: true} }

// away is a provider whose calls may take as long as they like.
type away struct{ tokencache.Provider }

func (p away) Capabilities() tokencache.Capabilities {
	caps := p.Provider.Capabilities()
	caps.InProcess = false
	return caps
}
