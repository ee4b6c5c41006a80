package memory_test

import (
	"errors"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const limit = 4 << 20

// TestWeightLimit fills a provider three times over. It stays within its limit,
// keeps every tombstone and mark, and its index has what is stored and no more.
func TestWeightLimit(t *testing.T) {
	t.Parallel()
	p := newProvider(t, &memory.Options{MaxBytes: limit})
	owner := newHash()
	var dead []tokencache.Name
	mark := tokencache.NewVersion()
	if err := p.SetMark(t.Context(), owner, mark, time.Time{}); err != nil {
		t.Fatalf("SetMark: %v", err)
	}
	const size = 4000
	for i := range 3 * limit / size {
		r := newRecord(size)
		r.Mark = mark
		save(t, p, tokencache.Name{Owner: owner, Partition: newHash()}, r)
		if i%10 == 0 {
			n := newName()
			save(t, p, n, newRecord(size))
			save(t, p, n, tokencache.Record{Version: tokencache.NewVersion()})
			dead = append(dead, n)
		}
	}
	weight := p.Weight()
	if weight > limit || weight < limit*9/10 {
		t.Errorf("weight is %d, want close to and at most %d", weight, limit)
	}
	for _, n := range dead {
		if r, err := p.Load(t.Context(), n); err != nil || !r.Removed() {
			t.Fatalf("a tombstone was evicted: error %v", err)
		}
	}
	if got := p.Tombstones(); got != int64(len(dead)) {
		t.Errorf("%d tombstones are counted, want %d", got, len(dead))
	}
	names, err := p.List(t.Context(), owner)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	for _, n := range names {
		if r, err := p.Load(t.Context(), n); err != nil || r.Mark != mark {
			t.Fatalf("List has what is gone, or the mark is: error %v", err)
		}
	}
	if stored, indexed := p.Held(); stored-len(dead) != indexed || indexed != len(names) {
		t.Errorf("stored %d with %d tombstones, indexed %d, listed %d", stored, len(dead), indexed, len(names))
	}
}

// TestTombstoneLimit: removals beyond the limit fail until others expire.
func TestTombstoneLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t, &memory.Options{MaxBytes: limit})
		const most = limit / 1024
		remove := func() error {
			r := tokencache.Record{Version: tokencache.NewVersion(), Expires: time.Now().Add(5 * time.Minute)}
			return p.Save(t.Context(), newName(), r, tokencache.Always())
		}
		for i := range most {
			if err := remove(); err != nil {
				t.Fatalf("removal %d: %v", i, err)
			}
		}
		if err := remove(); err == nil || errors.Is(err, tokencache.ErrConflict) {
			t.Errorf("removal beyond the limit: got error %v, want one of the provider", err)
		}
		save(t, p, newName(), newRecord(10)) // only removals fail
		time.Sleep(5*time.Minute + 3*time.Second)
		if err := remove(); err != nil {
			t.Errorf("removal after the others expired: %v", err)
		}
		if got := p.Tombstones(); got != 1 {
			t.Errorf("%d tombstones are counted, want 1", got)
		}
	})
}

// TestUpkeep: marks and leases go without Sweep as others are made, are limited,
// and go at once with it.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t, &memory.Options{MaxBytes: limit})
		for range 50 {
			for range 100 {
				if err := p.SetMark(t.Context(), newHash(), tokencache.NewVersion(), time.Now().Add(time.Second)); err != nil {
					t.Fatalf("SetMark: %v", err)
				}
				if _, err := p.Acquire(t.Context(), newName(), time.Second); err != nil {
					t.Fatalf("Acquire: %v", err)
				}
			}
			time.Sleep(time.Second)
		}
		if marks, leases := p.Marks(), p.Leases(); marks > 2000 || leases > 500 {
			t.Errorf("of 5000 that expired, %d marks and %d leases are held", marks, leases)
		}
		if _, err := p.Sweep(t.Context()); err != nil {
			t.Errorf("Sweep: %v", err)
		}
		if marks, leases := p.Marks(), p.Leases(); marks+leases != 0 {
			t.Errorf("after Sweep, %d marks and %d leases are held", marks, leases)
		}
		var err error
		for range 2 * limit / 1024 {
			if err = p.SetMark(t.Context(), newHash(), tokencache.NewVersion(), time.Time{}); err != nil {
				break
			}
		}
		if err == nil {
			t.Error("marks have no limit")
		}
	})
}

// TestEvictionRace saves, removes, expires, touches, lists and evicts at once.
// At the end, the index has exactly what is stored.
func TestEvictionRace(t *testing.T) {
	t.Parallel()
	p := newProvider(t, &memory.Options{MaxBytes: limit})
	owners := make([]string, 7)
	for i := range owners {
		owners[i] = newHash()
	}
	var wg sync.WaitGroup
	for g := range 1000 {
		wg.Go(func() {
			for i := range 20 {
				n := tokencache.Name{Owner: owners[(g+i)%len(owners)], Partition: strconv.Itoa((g * i) % 1500)}
				exercise(t, p, n, g+i)
			}
		})
	}
	wg.Wait()
	time.Sleep(5 * time.Millisecond)
	if _, err := p.Sweep(t.Context()); err != nil {
		t.Fatalf("Sweep: %v", err)
	}
	if weight := p.Weight(); weight > limit {
		t.Errorf("weight is %d, want at most %d", weight, limit)
	}
	stored, indexed := p.Held()
	if tombs := int(p.Tombstones()); stored-tombs != indexed {
		t.Errorf("stored %d with %d tombstones, but indexed %d", stored, tombs, indexed)
	}
	for _, owner := range owners {
		names, err := p.List(t.Context(), owner)
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		for _, n := range names {
			if r, err := p.Load(t.Context(), n); err != nil || r.Removed() {
				t.Fatalf("List has what is gone: error %v", err)
			}
		}
	}
}

func exercise(t *testing.T, p *memory.Provider, n tokencache.Name, kind int) {
	r := newRecord(8000)
	switch kind % 8 {
	case 0:
		r.Sealed = nil
	case 1:
		r.Expires = time.Now().Add(time.Duration(kind%5) * time.Millisecond)
	case 2:
		if _, err := p.List(t.Context(), n.Owner); err != nil {
			t.Errorf("List: %v", err)
		}
		return
	case 3:
		old, err := p.Load(t.Context(), n)
		if err == nil {
			_ = p.Touch(t.Context(), n, old.Version, time.Now().Add(time.Hour))
		}
		return
	default:
	}
	if err := p.Save(t.Context(), n, r, tokencache.Always()); err != nil {
		t.Errorf("Save: %v", err)
	}
}

// TestMemory measures what a user costs, the index included.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("needs half a gigabyte")
	}
	const users, size = 100_000, 4 << 10
	p := newProvider(t, &memory.Options{MaxBytes: 1 << 30})
	before := heap()
	for range users {
		save(t, p, newName(), newRecord(size))
	}
	used := heap() - before
	stored, indexed := p.Held()
	if stored != users || indexed != users {
		t.Fatalf("stored %d, indexed %d, want %d", stored, indexed, users)
	}
	ratio := float64(used) / (users * size)
	t.Logf("%d users of %d bytes: %d bytes each, %.3f of the payload; weighed as %d",
		users, size, used/users, ratio, p.Weight()/users)
	if ratio > 1.35 {
		t.Errorf("memory is %.3f of the payload, want at most 1.35", ratio)
	}
	runtime.KeepAlive(p)
}

// heap returns the bytes that are reachable.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
