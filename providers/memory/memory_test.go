package memory_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConformance runs in bubbles, where time jumps to the next expiry.
func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New:    func(t *testing.T) tokencache.Provider { return newProvider(t, nil) },
		Around: synctest.Test,
	})
}

// TestConformanceRealTime runs where the scheduler, and otter's timers, are not
// the bubble's.
func TestConformanceRealTime(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for things to expire")
	}
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New:    func(t *testing.T) tokencache.Provider { return newProvider(t, nil) },
		Expiry: 50 * time.Millisecond,
	})
}

// TestCache has two caches over one provider, as there is one process.
func TestCache(t *testing.T) {
	t.Parallel()
	h := providertest.Harness{New: func(t *testing.T) tokencache.Provider { return newProvider(t, nil) }}
	for name, around := range map[string]func(*testing.T, func(*testing.T)){"Bubble": synctest.Test, "RealTime": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := h
			h.Around = around
			providertest.RunCache(t, h)
		})
	}
}

func newProvider(t testing.TB, o *memory.Options) *memory.Provider {
	t.Helper()
	p, err := memory.New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}

func newHash() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func newName() tokencache.Name {
	return tokencache.Name{Owner: newHash(), Partition: newHash()}
}

func newRecord(size int) tokencache.Record {
	return tokencache.Record{Sealed: make([]byte, size), Version: tokencache.NewVersion()}
}

func save(t testing.TB, p *memory.Provider, n tokencache.Name, r tokencache.Record) {
	t.Helper()
	if err := p.Save(context.Background(), n, r, tokencache.Always()); err != nil {
		t.Fatalf("Save: %v", err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		o    *memory.Options
		ok   bool
	}{
		{"nil", nil, true},
		{"zero", &memory.Options{}, true},
		{"least", &memory.Options{MaxBytes: 4 << 20}, true},
		{"too little", &memory.Options{MaxBytes: 4<<20 - 1}, false},
		{"one byte", &memory.Options{MaxBytes: 1}, false},
		{"too much", &memory.Options{MaxBytes: 1 << 63}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := memory.New(tt.o)
			if (err == nil) != tt.ok {
				t.Fatalf("New: error %v, want none: %v", err, tt.ok)
			}
			if p != nil {
				_ = p.Close(t.Context())
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	n := newName()
	err := p.Save(t.Context(), n, newRecord(tokencache.MaxSealedSize+1), tokencache.Always())
	if !errors.Is(err, tokencache.ErrTooLarge) {
		t.Errorf("Save of one byte too many: got error %v, want ErrTooLarge", err)
	}
	if _, err := p.Load(t.Context(), n); !errors.Is(err, tokencache.ErrNotFound) {
		t.Errorf("Load: got error %v, want ErrNotFound", err)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	n := newName()
	save(t, p, n, newRecord(10))
	lease, err := p.Acquire(t.Context(), n, time.Hour)
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	watch := make(chan error, 1)
	watching := make(chan struct{})
	go func() {
		watch <- p.Watch(context.Background(), func(c tokencache.Change) {
			if c.Missed {
				close(watching)
			}
		})
	}()
	<-watching
	for range 2 {
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := <-watch; err == nil {
		t.Error("Watch returned nil when the provider was closed")
	}
	for name, call := range map[string]func() error{
		"Load":    func() error { _, err := p.Load(t.Context(), n); return err },
		"Save":    func() error { return p.Save(t.Context(), n, newRecord(1), tokencache.Always()) },
		"Touch":   func() error { return p.Touch(t.Context(), n, tokencache.Version{}, time.Time{}) },
		"SetMark": func() error { return p.SetMark(t.Context(), n.Owner, tokencache.NewVersion(), time.Time{}) },
		"List":    func() error { _, err := p.List(t.Context(), n.Owner); return err },
		"Acquire": func() error { _, err := p.Acquire(t.Context(), newName(), time.Hour); return err },
		"Renew":   func() error { return lease.Renew(t.Context(), time.Hour) },
		"Release": func() error { return lease.Release(t.Context()) },
		"Watch":   func() error { return p.Watch(t.Context(), func(tokencache.Change) {}) },
		"Sweep":   func() error { _, err := p.Sweep(t.Context()); return err },
		"Ping":    func() error { return p.Ping(t.Context()) },
	} {
		err := call()
		if err == nil || errors.Is(err, tokencache.ErrNotFound) {
			t.Errorf("%s of a closed provider: got error %v, want one of its own", name, err)
		}
	}
}

// TestExpiry is exact to the nanosecond, which otter's timers are not, and lets an
// hour pass.
func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t, nil)
		n, r := newName(), newRecord(100)
		r.Expires = time.Now().Add(time.Hour)
		save(t, p, n, r)
		time.Sleep(time.Until(r.Expires) - time.Nanosecond)
		if got, err := p.Load(t.Context(), n); err != nil || !got.Expires.Equal(r.Expires) {
			t.Fatalf("Load a nanosecond before the expiry: %v, error %v", got.Expires, err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := p.Load(t.Context(), n); !errors.Is(err, tokencache.ErrNotFound) {
			t.Fatalf("Load at the expiry: got error %v, want ErrNotFound", err)
		}
		// Otter's timers find it within two of their ticks.
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got, _ := p.Held(); got != 0 {
			t.Errorf("%d entries are held after they expired", got)
		}
		if swept, err := p.Sweep(t.Context()); swept != 1 || err != nil {
			t.Errorf("Sweep: got %d, error %v; want the one that expired", swept, err)
		}
	})
}
