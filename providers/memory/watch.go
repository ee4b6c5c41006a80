package memory

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// subscribers are the Watches that run.
type subscribers struct {
	mu sync.Mutex // serializes changes of all
	// all is replaced, never changed, so that a Save pays one load if nobody
	// watches.
	all    atomic.Pointer[[]*subscriber]
	closed chan struct{}
}

// subscriber is one Watch.
type subscriber struct {
	notify func(tokencache.Change)
	// first sends the Missed change that everything else must follow: whoever
	// comes first does, Watch itself or a Save.
	first sync.Once
	// mu is held shared while notify runs, and exclusively to end that.
	mu    sync.RWMutex
	ended bool
}

// Watch calls notify for each Save, from inside it, until ctx ends or the
// provider is closed. See [tokencache.Watcher]. It does not tell of evictions
// and expiries. Missed is sent once: nothing is lost later.
func (p *Provider) Watch(ctx context.Context, notify func(tokencache.Change)) error {
	if err := p.ready(ctx); err != nil {
		return err
	}
	s := &subscriber{notify: notify}
	closed := p.subscribers.add(s)
	defer p.subscribers.remove(s)
	s.first.Do(s.missed)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-closed:
		return errClosed
	}
}

func (s *subscriber) missed() { s.notify(tokencache.Change{Missed: true}) }

func (s *subscriber) tell(c tokencache.Change) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.ended {
		return
	}
	s.first.Do(s.missed)
	s.notify(c)
}

// end returns once notify runs no more.
func (s *subscriber) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// tell tells everyone. The caller holds no lock.
func (ss *subscribers) tell(c tokencache.Change) {
	all := ss.all.Load()
	if all == nil {
		return
	}
	for _, s := range *all {
		s.tell(c)
	}
}

// add adds a subscriber and returns a channel that is closed when the provider
// is.
func (ss *subscribers) add(s *subscriber) <-chan struct{} {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var all []*subscriber
	if old := ss.all.Load(); old != nil {
		all = slices.Clone(*old)
	}
	all = append(all, s)
	ss.all.Store(&all)
	return ss.closedLocked()
}

func (ss *subscribers) remove(s *subscriber) {
	ss.mu.Lock()
	all := slices.DeleteFunc(slices.Clone(*ss.all.Load()), func(other *subscriber) bool { return other == s })
	ss.all.Store(&all)
	if len(all) == 0 {
		ss.all.Store(nil)
	}
	ss.mu.Unlock()
	s.end()
}

func (ss *subscribers) close() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	close(ss.closedLocked())
}

func (ss *subscribers) closedLocked() chan struct{} {
	if ss.closed == nil {
		ss.closed = make(chan struct{})
	}
	return ss.closed
}
