package providertest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// spy stands between a Cache and its provider: it counts what is read and
// written, and knows under which names.
type spy struct {
	tokencache.Provider
	hide func(*tokencache.Capabilities) // what the Cache is not to know of; nil: nothing
	slow time.Duration                  // that a save is on its way

	calls    atomic.Int64 // loads and saves
	missed   atomic.Int64 // Changes that were Missed
	refusing atomic.Bool  // saves are not made, as if the backend were down

	listening chan struct{} // closed after the first Missed
	once      sync.Once

	mu    sync.Mutex
	names []tokencache.Name // under which something was saved, in that order
}

func (s *spy) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	s.calls.Add(1)
	return s.Provider.Load(ctx, n)
}

func (s *spy) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	s.calls.Add(1)
	if s.refusing.Load() {
		return ErrFault
	}
	s.mu.Lock()
	if !slices.Contains(s.names, n) {
		s.names = append(s.names, n)
	}
	s.mu.Unlock()
	time.Sleep(s.slow)
	return s.Provider.Save(ctx, n, r, c)
}

// saved returns the names under which something was saved.
func (s *spy) saved() []tokencache.Name {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.names)
}

// Capabilities returns the provider's, but for what is hidden.
func (s *spy) Capabilities() tokencache.Capabilities {
	caps := s.Provider.Capabilities()
	if s.hide != nil {
		s.hide(&caps)
	}
	if caps.Watcher != nil {
		caps.Watcher = spyWatcher{s, caps.Watcher}
	}
	return caps
}

type spyWatcher struct {
	spy     *spy
	watcher tokencache.Watcher
}

func (w spyWatcher) Watch(ctx context.Context, notify func(tokencache.Change)) error {
	return w.watcher.Watch(ctx, func(c tokencache.Change) {
		if c.Missed {
			w.spy.missed.Add(1) // before copies end: who counts calls must see it first
		}
		notify(c)
		if c.Missed {
			w.spy.once.Do(func() { close(w.spy.listening) })
		}
	})
}

func hideLeaser(c *tokencache.Capabilities)  { c.Leaser = nil }
func hideWatcher(c *tokencache.Capabilities) { c.Watcher = nil }

func hideLeaserAndWatcher(c *tokencache.Capabilities) {
	hideLeaser(c)
	hideWatcher(c)
}
