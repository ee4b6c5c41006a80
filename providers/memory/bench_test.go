package memory_test

import (
	"testing"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	benchUsers = 1000
	benchSize  = 4 << 10
)

func benchNames() []tokencache.Name {
	names := make([]tokencache.Name, benchUsers)
	for i := range names {
		names[i] = newName()
	}
	return names
}

// bare is otter as the provider uses it, without all that the provider adds:
// copies, conditions, marks and the index.
func bare(b *testing.B) *otter.Cache[tokencache.Name, []byte] {
	b.Helper()
	cache := otter.Must(&otter.Options[tokencache.Name, []byte]{
		MaximumWeight:    256 << 20,
		Weigher:          func(_ tokencache.Name, v []byte) uint32 { return uint32(len(v)) },
		ExpiryCalculator: otter.ExpiryWriting[tokencache.Name, []byte](time.Hour),
	})
	b.Cleanup(func() { cache.StopAllGoroutines() })
	return cache
}

func BenchmarkLoad(b *testing.B) {
	p, names := newProvider(b, nil), benchNames()
	for _, n := range names {
		save(b, p, n, newRecord(benchSize))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := p.Load(b.Context(), names[i%benchUsers]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOtterGet(b *testing.B) {
	cache, names := bare(b), benchNames()
	for _, n := range names {
		cache.Set(n, make([]byte, benchSize))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, ok := cache.GetIfPresent(names[i%benchUsers]); !ok {
			b.Fatal("missing")
		}
	}
}

func BenchmarkSave(b *testing.B) {
	p, names := newProvider(b, nil), benchNames()
	r := newRecord(benchSize)
	r.Expires = time.Now().Add(time.Hour)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := p.Save(b.Context(), names[i%benchUsers], r, tokencache.Always()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOtterSet(b *testing.B) {
	cache, names := bare(b), benchNames()
	value := make([]byte, benchSize)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		cache.Set(names[i%benchUsers], append([]byte(nil), value...))
	}
}

func BenchmarkLoadParallel(b *testing.B) {
	p, names := newProvider(b, nil), benchNames()
	for _, n := range names {
		save(b, p, n, newRecord(benchSize))
	}
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := p.Load(b.Context(), names[i%benchUsers]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
