package tokencache

import (
	"context"
	"sync"
)

// loads has one load of a partition run at a time, which others join. (It is not
// singleflight, since that begins each in a goroutine of its own if waiting is to
// end with a context: handing over costs half of what a near backend takes.)
type loads struct {
	// here has a load run in its first caller, who waits for its end even if nobody
	// wants the answer any more: it must come to an end soon by itself.
	here bool

	mu   sync.Mutex
	runs map[string]*loading // by partition name
}

// loading is a load that runs.
type loading struct {
	done   chan struct{} // closed when the rest is there; nil if nobody waits for that
	loaded loaded
	err    error
}

// do returns what f loads, or the load of that name which runs already.
func (l *loads) do(ctx context.Context, name string, f func() (loaded, error)) (loaded, error) {
	l.mu.Lock()
	run, joined := l.runs[name]
	if !joined {
		run = &loading{}
		if l.runs == nil {
			l.runs = map[string]*loading{}
		}
		l.runs[name] = run
	}
	if run.done == nil && (joined || !l.here) {
		run.done = make(chan struct{})
	}
	l.mu.Unlock()
	switch {
	case joined:
	case l.here:
		l.run(name, run, f)
		return run.loaded, run.err
	default:
		go l.run(name, run, f)
	}
	select {
	case <-run.done:
		return run.loaded, run.err
	case <-ctx.Done():
		return loaded{}, ctx.Err()
	}
}

// run runs f, which does not panic.
func (l *loads) run(name string, run *loading, f func() (loaded, error)) {
	run.loaded, run.err = f()
	l.mu.Lock()
	delete(l.runs, name)
	done := run.done
	l.mu.Unlock()
	if done != nil {
		close(done)
	}
}
