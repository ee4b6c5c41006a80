package tokencache_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// failover is a store with a replica that follows it when told. What was
// acknowledged since then is lost when the replica takes over, and leases are; and
// whoever watches loses the connection.
type failover struct {
	t testing.TB

	mu       sync.Mutex
	primary  site
	replica  site
	switched chan struct{} // closed when the replica takes over
}

type site struct {
	*memory.Provider
	names map[tokencache.Name]bool
	marks map[string]mark
}

type mark struct {
	version tokencache.Version
	expires time.Time
}

func newFailover(t testing.TB) *failover {
	t.Helper()
	return &failover{t: t, primary: newSite(t), replica: newSite(t), switched: make(chan struct{})}
}

func newSite(t testing.TB) site {
	t.Helper()
	return site{newProvider(t), map[tokencache.Name]bool{}, map[string]mark{}}
}

// replicate has the replica follow.
func (f *failover) replicate() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replica = site{newProvider(f.t), maps.Clone(f.primary.names), maps.Clone(f.primary.marks)}
	ctx := context.Background()
	for owner, m := range f.primary.marks {
		if err := f.replica.SetMark(ctx, owner, m.version, m.expires); err != nil {
			f.t.Error(err)
		}
	}
	for name := range f.primary.names {
		r, err := f.primary.Load(ctx, name)
		if err == nil {
			err = f.replica.Save(ctx, name, r, tokencache.Always())
		}
		if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
			f.t.Error(err)
		}
	}
}

// fail has the replica take over. It has no replica of its own until replicate.
func (f *failover) fail() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.primary, f.replica = f.replica, newSite(f.t)
	close(f.switched)
	f.switched = make(chan struct{})
}

// failAndReconnect is fail, and the time that watchers need to notice.
func (f *failover) failAndReconnect() {
	f.fail()
	time.Sleep(2 * time.Second)
}

func (f *failover) now() *memory.Provider {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.primary.Provider
}

func (f *failover) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	return f.now().Load(ctx, n)
}

func (f *failover) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	f.mu.Lock()
	f.primary.names[n] = true
	f.mu.Unlock()
	return f.now().Save(ctx, n, r, c)
}

func (f *failover) Acquire(ctx context.Context, n tokencache.Name, ttl time.Duration) (tokencache.Lease, error) {
	return f.now().Acquire(ctx, n, ttl)
}

func (f *failover) SetMark(ctx context.Context, owner string, v tokencache.Version, expires time.Time) error {
	f.mu.Lock()
	f.primary.marks[owner] = mark{v, expires}
	f.mu.Unlock()
	return f.now().SetMark(ctx, owner, v, expires)
}

func (f *failover) List(ctx context.Context, owner string) ([]tokencache.Name, error) {
	return f.now().List(ctx, owner)
}

func (f *failover) Watch(ctx context.Context, notify func(tokencache.Change)) error {
	f.mu.Lock()
	primary, switched := f.primary.Provider, f.switched
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var cutting sync.WaitGroup
	defer cutting.Wait()
	cutting.Go(func() {
		select {
		case <-switched:
			cancel()
		case <-ctx.Done():
		}
	})
	return primary.Watch(ctx, notify)
}

func (f *failover) Capabilities() tokencache.Capabilities {
	return tokencache.Capabilities{InProcess: true, Leaser: f, Owners: f, Watcher: f}
}
