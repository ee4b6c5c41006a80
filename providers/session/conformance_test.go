package session_test

import (
	"context"
	"sync"
	"testing"

	"github.com/alexedwards/scs/v2"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/providers/session"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

func newProvider(t testing.TB, m *scs.SessionManager, o *session.Options) *session.Provider {
	t.Helper()
	p, err := session.New(m, o)
	must(t, err)
	return p
}

func newMemory(t testing.TB) *memory.Provider {
	t.Helper()
	p, err := memory.New(nil)
	must(t, err)
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

// In each store, and from another manager with a connection of its own in this
// process.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, s := range stores() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			var again sync.Map // of providers
			providertest.Run(t, providertest.Harness{
				New: func(t *testing.T) tokencache.Provider {
					open := s.open(t)
					p := newProvider(t, newManager(open(t)), nil)
					again.Store(p, open)
					return p
				},
				Peer: func(t *testing.T, first tokencache.Provider) tokencache.Provider {
					open, _ := again.Load(first)
					return newProvider(t, newManager(open.(func(testing.TB) scs.Store)(t)), nil)
				},
			})
		})
	}
}

// In front of another provider, which offers everything, and of one that offers
// nothing.
func TestConformanceInFront(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(tokencache.Provider) tokencache.Provider{
		"everything": func(p tokencache.Provider) tokencache.Provider { return p },
		"nothing":    func(p tokencache.Provider) tokencache.Provider { return bare{p} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := stores()[0].open(t)
			manager := newManager(open(t))
			providertest.Run(t, providertest.Harness{
				New: func(t *testing.T) tokencache.Provider {
					return newProvider(t, manager, &session.Options{Provider: wrap(newMemory(t))})
				},
			})
		})
	}
}

// bare offers no capability.
type bare struct{ inner tokencache.Provider }

func (b bare) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	return b.inner.Load(ctx, n)
}

func (b bare) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	return b.inner.Save(ctx, n, r, c)
}

func (bare) Capabilities() tokencache.Capabilities { return tokencache.Capabilities{} }

// What the other provider offers is offered; without one, nothing that a store of
// scs cannot keep.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	manager := newManager(stores()[0].open(t)(t))
	inner := newMemory(t).Capabilities()
	got := newProvider(t, manager, &session.Options{Provider: newMemory(t)}).Capabilities()
	if !got.InProcess || got.Leaser == nil || got.Owners == nil || got.Watcher == nil || got.Sweeper == nil || got.Pinger == nil ||
		got.Punctual != inner.Punctual {
		t.Error("something that the other provider offers was dropped")
	}
	own := newProvider(t, manager, nil).Capabilities()
	if own.InProcess || own.Punctual || own.Leaser != nil || own.Owners != nil || own.Watcher != nil || own.Sweeper != nil {
		t.Error("the manager's store promises what it cannot keep")
	}
	if own.Toucher == nil || own.Pinger == nil {
		t.Error("the manager's store can touch and ping")
	}
}
