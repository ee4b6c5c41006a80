package tokencache

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// keyedLocks are locks by name, each existing only while somebody holds or
// waits for it. Waiting ends with the context, and nobody is overtaken.
type keyedLocks struct {
	mu sync.Mutex
	m  map[string]*keyedLock
}

type keyedLock struct {
	sem   *semaphore.Weighted
	users int // holders and waiters; guarded by keyedLocks.mu
}

// sharers is how many may share a lock at once.
const sharers = 1 << 30

// lock takes the lock and returns the function that gives it back.
func (k *keyedLocks) lock(ctx context.Context, name string) (unlock func(), err error) {
	return k.acquire(ctx, name, sharers)
}

// share is lock for those who may hold it together.
func (k *keyedLocks) share(ctx context.Context, name string) (unlock func(), err error) {
	return k.acquire(ctx, name, 1)
}

func (k *keyedLocks) acquire(ctx context.Context, name string, n int64) (unlock func(), err error) {
	k.mu.Lock()
	if k.m == nil {
		k.m = map[string]*keyedLock{}
	}
	l := k.m[name]
	if l == nil {
		l = &keyedLock{sem: semaphore.NewWeighted(sharers)}
		k.m[name] = l
	}
	l.users++
	k.mu.Unlock()

	if err := l.sem.Acquire(ctx, n); err != nil {
		k.leave(name, l)
		return nil, err
	}
	return func() { l.sem.Release(n); k.leave(name, l) }, nil
}

func (k *keyedLocks) leave(name string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.m, name)
	}
}
