package testserver

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
)

func TestPostgresPrograms(t *testing.T) {
	root := t.TempDir()
	install := func(dir string, programs ...string) string {
		dir = filepath.Join(root, dir)
		for _, program := range programs {
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, program), nil, 0o755)); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	t.Setenv("PATH", filepath.Join(root, "path"))
	usualPlaces(t, filepath.Join(root, "lib/*/bin"))
	want := func(dir string) {
		t.Helper()
		if got, err := postgresPrograms(); got != dir || err != nil {
			t.Errorf("found %s, %v, want %s", got, err, dir)
		}
	}
	if dir, err := postgresPrograms(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("found %q, %v, want exec.ErrNotFound", dir, err)
	}
	install("lib/17/bin", "initdb") // only the tools
	install("path", "postgres")     // a wrapper
	want(install("lib/9/bin", "postgres", "initdb"))
	want(install("lib/15/bin", "postgres", "initdb"))
	if err := os.Remove(filepath.Join(root, "path/postgres")); err != nil {
		t.Fatal(err)
	}
	other := install("other", "postgres", "initdb")
	if err := os.Symlink(filepath.Join(other, "postgres"), filepath.Join(root, "path/postgres")); err != nil {
		t.Fatal(err)
	}
	want(other)
}

// usualPlaces replaces the places that are looked at besides the PATH.
func usualPlaces(t *testing.T, places ...string) {
	t.Helper()
	before := postgresPlaces
	postgresPlaces = places
	t.Cleanup(func() { postgresPlaces = before })
}

func TestNewestFirst(t *testing.T) {
	dirs := []string{"/a/9.6/b", "/a/15/b", "/a/9/b", "/a/17/b", "/a/10/b", "/a/9.10/b"}
	slices.SortFunc(dirs, newestFirst)
	if want := []string{"/a/17/b", "/a/15/b", "/a/10/b", "/a/9.10/b", "/a/9.6/b", "/a/9/b"}; !slices.Equal(dirs, want) {
		t.Errorf("%q, want %q", dirs, want)
	}
}

func TestNewPostgresWithoutPostgres(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	usualPlaces(t)
	if _, err := StartPostgres(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("StartPostgres: %v, want exec.ErrNotFound", err)
	}
	for variable, want := range map[string]string{"": "skip", "1": "fail"} {
		t.Setenv(requireServers, variable)
		for name, start := range map[string]func(testing.TB){
			"NewPostgres":     func(t testing.TB) { NewPostgres(t) },
			"NewPostgresPair": func(t testing.TB) { NewPostgresPair(t) },
		} {
			fake := &outcome{TB: t}
			var wg sync.WaitGroup
			wg.Go(func() { start(fake) })
			wg.Wait()
			if fake.what != want {
				t.Errorf("%s with %s=%q: %q, want %q", name, requireServers, variable, fake.what, want)
			}
		}
	}
}

// outcome notes whether the test would be skipped or fail.
type outcome struct {
	testing.TB
	what string
}

func (o *outcome) Skip(...any)  { o.what = "skip"; runtime.Goexit() }
func (o *outcome) Fatal(...any) { o.what = "fail"; runtime.Goexit() }
