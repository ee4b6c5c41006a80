package file_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A load of an 8 KB record from a file that has not changed, beside reading the file; and a
// save, beside writing, syncing and renaming as many bytes.
func BenchmarkLoad(b *testing.B) {
	p, path := benchmarked(b)
	b.Run("provider", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Load(b.Context(), name("x")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := os.ReadFile(path); err != nil { // #nosec G304 -- of this benchmark
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSave(b *testing.B) {
	p, path := benchmarked(b)
	content, err := os.ReadFile(path) // #nosec G304 -- of this benchmark
	if err != nil {
		b.Fatal(err)
	}
	b.Run("provider", func(b *testing.B) {
		for b.Loop() {
			if err := p.Save(b.Context(), name("x"), eightKB(), always); err != nil {
				b.Fatal(err)
			}
		}
	})
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			f, err := os.Create(path + ".bare")
			if err != nil {
				b.Fatal(err)
			}
			_, err = f.Write(content)
			for _, err := range []error{err, f.Sync(), f.Close(), os.Rename(path+".bare", path+".other"), dir.Sync()} {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

func eightKB() tokencache.Record { return record(strings.Repeat("x", 8<<10)) }

func benchmarked(b *testing.B) (p *file.Provider, path string) {
	b.Helper()
	dir := directory(b)
	p = open(b, &file.Options{Dir: dir})
	if err := p.Save(b.Context(), name("x"), eightKB(), always); err != nil {
		b.Fatal(err)
	}
	return p, filepath.Join(dir, "default.tokens")
}
