package file_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/zalando/go-keyring"
	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// always is the condition of a save that happens whatever is stored.
var always = tokencache.Always()

func TestMain(m *testing.M) {
	if run := children[os.Getenv(childVariable)]; run != nil {
		run()
		os.Exit(0)
	}
	keyring.MockInit() // the real one is asked by child processes
	_ = os.Setenv("DBUS_SESSION_BUS_ADDRESS", "a session")
	home, err := os.MkdirTemp("", "coatcheck-home-") // not the home directory of whoever runs the tests
	if err != nil {
		panic(err)
	}
	_ = os.Setenv("XDG_DATA_HOME", home)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(home)
		os.Exit(code)
	}))
}

// open opens the cache in a directory.
func open(t testing.TB, o *file.Options) *file.Provider {
	t.Helper()
	p, err := file.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

// directory returns one that does not exist yet.
func directory(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "coatcheck")
}

func name(partition string) tokencache.Name {
	return tokencache.Name{Owner: "owner", Partition: partition}
}

func record(text string) tokencache.Record {
	return tokencache.Record{Sealed: []byte(text), Version: tokencache.NewVersion()}
}

// mustHold fails unless that is stored under the name.
func mustHold(t testing.TB, p tokencache.Provider, n tokencache.Name, want string) {
	t.Helper()
	if r, err := p.Load(t.Context(), n); err != nil || string(r.Sealed) != want {
		t.Errorf("of %q: error %v, and as expected: %v", n.Partition, err, string(r.Sealed) == want)
	}
}

func mustMkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func mustRemove(t testing.TB, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
