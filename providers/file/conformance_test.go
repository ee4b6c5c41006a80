package file_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// files makes a harness whose providers over one store are two openings of a file, as
// two processes have.
func files() providertest.Harness {
	var dirs sync.Map // of providers
	start := func(t *testing.T, dir string) tokencache.Provider {
		p, err := file.Open(t.Context(), &file.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close(context.Background()) })
		dirs.Store(p, dir)
		return p
	}
	return providertest.Harness{
		New: func(t *testing.T) tokencache.Provider { return start(t, quick(t)) },
		Peer: func(t *testing.T, first tokencache.Provider) tokencache.Provider {
			dir, _ := dirs.Load(first)
			return start(t, dir.(string))
		},
		Around: synctest.Test,
	}
}

// quick returns a directory in memory, if there is a place for that: each of thousands of
// saves would wait for the disk. Those of other tests do.
func quick(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "coatcheck-file-")
	if err != nil {
		return directory(t)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "coatcheck")
}

func streams() providertest.Harness {
	return providertest.Harness{
		New:    func(*testing.T) tokencache.Provider { return file.NewStream(nil) },
		Around: synctest.Test,
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, files())
}

func TestConformanceCache(t *testing.T) {
	t.Parallel()
	providertest.RunCache(t, files())
}

func TestConformanceStream(t *testing.T) {
	t.Parallel()
	providertest.Run(t, streams())
}

func TestConformanceStreamCache(t *testing.T) {
	t.Parallel()
	providertest.RunCache(t, streams())
}
