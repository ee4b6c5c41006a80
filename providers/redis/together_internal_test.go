package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// crowd is a provider on a server with some records, and a batch that the test
// has begun and sends.
type crowd struct {
	t     *testing.T
	p     *Provider
	c     redis.UniversalClient
	names []tokencache.Name
	first *batch
	trips atomic.Int64
	panic atomic.Bool // the next pipeline panics

	wg      sync.WaitGroup
	results [batchMost]struct {
		r   tokencache.Record
		err error
	}
}

func newCrowd(t *testing.T) *crowd {
	o := RecommendedOptions()
	o.Addrs = []string{testserver.NewRedis(t, "requirepass marker-password").Addr()}
	o.Password = "marker-password"
	c := redis.NewUniversalClient(o)
	t.Cleanup(func() { _ = c.Close() })
	p, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	w := &crowd{t: t, p: p, c: c}
	for i := range batchMost {
		n := tokencache.Name{Owner: fmt.Sprint("owner", i), Partition: fmt.Sprint("partition", i)}
		r := tokencache.Record{Sealed: []byte(n.Partition), Version: tokencache.NewVersion()}
		if err := p.Save(t.Context(), n, r, tokencache.Condition{}); err != nil {
			t.Fatal(err)
		}
		w.names = append(w.names, n)
	}
	if _, err := p.Load(t.Context(), w.names[0]); err != nil { // the client has its connection
		t.Fatal(err)
	}
	c.AddHook(w)
	return w
}

func (w *crowd) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (w *crowd) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (w *crowd) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		w.trips.Add(1)
		if w.panic.Swap(false) {
			panic("in a hook of the client")
		}
		return next(ctx, commands)
	}
}

// gather begins a batch with a read of the first name, and has the others join.
// What becomes of them is in results after wait.
func (w *crowd) gather(ctx context.Context) read {
	w.t.Helper()
	w.p.reads.running.Add(1) // a load is under way
	record, mark := w.p.readKeys(w.names[0])
	one := newRead(ctx, record, mark)
	b, begun := w.p.reads.join(one)
	if !begun {
		w.t.Fatal("there was a batch already")
	}
	w.first = b
	for i := 1; i < batchMost; i++ {
		w.wg.Go(func() { w.results[i].r, w.results[i].err = w.p.Load(ctx, w.names[i]) })
	}
	for size := 0; size < 2*batchMost; time.Sleep(time.Millisecond) {
		w.p.reads.mu.Lock()
		size = len(b.commands)
		w.p.reads.mu.Unlock()
	}
	return one
}

// wait waits for those who have joined, each of whom must have its own record, but
// for the one named.
func (w *crowd) wait(but int) {
	w.t.Helper()
	w.wg.Wait()
	for i := 1; i < batchMost; i++ {
		if got := w.results[i]; i != but && (got.err != nil || string(got.r.Sealed) != w.names[i].Partition) {
			w.t.Errorf("load %d: the record %q, error %v", i, got.r.Sealed, got.err)
		}
	}
}

// Loads of one moment are one round trip, and each has its own answer: also the
// one whose key holds something else.
func TestLoadsTogether(t *testing.T) {
	w := newCrowd(t)
	wrong, mark := w.p.readKeys(w.names[3])
	version := tokencache.NewVersion()
	if err := errors.Join(w.c.Del(t.Context(), wrong).Err(), w.c.LPush(t.Context(), wrong, "x").Err(),
		w.c.Set(t.Context(), mark, version[:], 0).Err()); err != nil {
		t.Fatal(err)
	}
	one := w.gather(t.Context())
	w.p.reads.send(t.Context(), w.first)
	w.wait(3)
	if r, err := loaded(one); err != nil || string(r.Sealed) != w.names[0].Partition {
		t.Errorf("who sent the batch has the record %q, error %v", r.Sealed, err)
	}
	if got := w.results[3]; got.err != nil || got.r.Mark != version || len(got.r.Sealed) != 1 {
		t.Errorf("a list is loaded as %+v, error %v", got.r, got.err)
	}
	if n := w.trips.Load(); n != 1 {
		t.Errorf("%d round trips", n)
	}
	if w.p.reads.open != nil {
		t.Error("who comes later may still join")
	}
}

// A batch that is full is closed, and the next load begins another.
func TestFullBatch(t *testing.T) {
	w := newCrowd(t)
	w.gather(t.Context())
	if r, err := w.p.Load(t.Context(), w.names[5]); err != nil || string(r.Sealed) != w.names[5].Partition {
		t.Errorf("a load that found the batch full: the record %q, error %v", r.Sealed, err)
	}
	w.p.reads.send(t.Context(), w.first)
	w.wait(0)
}

// Whoever sends a batch may leave, or panic in a hook: that is theirs alone.
func TestBatchDeserted(t *testing.T) {
	t.Run("left", func(t *testing.T) {
		w := newCrowd(t)
		w.gather(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w.p.reads.send(ctx, w.first)
		w.wait(0)
	})
	t.Run("panicked", func(t *testing.T) {
		w := newCrowd(t)
		w.gather(t.Context())
		w.panic.Store(true)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			w.p.reads.send(t.Context(), w.first)
		}()
		w.wait(0)
	})
}

// A load ends with its own context, whether or not the batch has been sent.
func TestBatchLeft(t *testing.T) {
	w := newCrowd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w.gather(ctx)
	w.wg.Wait()
	for i := 1; i < batchMost; i++ {
		if err := w.results[i].err; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("load %d: error %v", i, err)
		}
	}
	w.p.reads.send(t.Context(), w.first)
}

// If the server refuses the connections, nobody's record is not found.
func TestBatchRefused(t *testing.T) {
	w := newCrowd(t)
	if err := w.c.ConfigSet(t.Context(), "requirepass", "marker-another").Err(); err != nil {
		t.Fatal(err)
	}
	if err := w.c.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "no").Err(); err != nil {
		t.Fatal(err)
	}
	one := w.gather(t.Context())
	w.p.reads.send(t.Context(), w.first)
	w.wg.Wait()
	if one.record.Err() == nil {
		t.Error("who sent the batch has no error")
	}
	for i := 1; i < batchMost; i++ {
		if err := w.results[i].err; err == nil || errors.Is(err, tokencache.ErrNotFound) {
			t.Errorf("load %d: error %v", i, err)
		}
	}
}

// However many load at once, and whatever is between them, everyone gets their own.
func TestManyLoads(t *testing.T) {
	w := newCrowd(t)
	for g := range 4 * batchMost {
		w.wg.Go(func() {
			for i := range 100 {
				n := w.names[(g+i)%len(w.names)]
				if r, err := w.p.Load(t.Context(), n); err != nil || string(r.Sealed) != n.Partition {
					t.Errorf("the record %q of %s, error %v", r.Sealed, n.Partition, err)
					return
				}
			}
		})
	}
	w.wg.Wait()
	if n := w.trips.Load(); n >= 400*batchMost {
		t.Errorf("%d round trips for %d loads: none went together", n, 400*batchMost)
	}
	if n := w.p.reads.running.Load(); n != 0 {
		t.Errorf("%d loads are under way still", n)
	}
}
