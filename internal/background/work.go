package background

import (
	"context"
	"sync"
	"time"
)

// Work is goroutines that end with their owner. It is safe for concurrent use.
type Work struct {
	// Life ends with Close. It is not to be replaced.
	Life context.Context

	end   context.CancelFunc
	group sync.WaitGroup

	mu     sync.Mutex // nothing begins while Close begins to wait
	closed bool
}

// NewWork returns a Work without any, which is to be closed.
func NewWork() *Work {
	w := &Work{}
	w.Life, w.end = context.WithCancel(context.Background())
	return w
}

// Go calls f in a goroutine, with a context that ends with Close, and tells whether
// it does: after Close it does not.
func (w *Work) Go(f func(context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.group.Go(func() { f(w.Life) })
	return true
}

// Close tells all goroutines to end, and waits for them until ctx ends, whose error
// it returns then. Closing again waits again.
func (w *Work) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.end()
	done := make(chan struct{})
	go func() {
		w.group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sleep waits, and tells whether ctx goes on.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
