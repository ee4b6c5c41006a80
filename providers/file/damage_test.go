package file_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// filled returns a directory with a cache in it that has a record, and the bytes of its
// file.
func filled(t testing.TB, o file.Options) (dir string, b []byte) {
	t.Helper()
	dir = directory(t)
	o.Dir = dir
	p := open(t, &o)
	if err := p.Save(t.Context(), name("x"), record("marker-x"), always); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "default.tokens"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, b
}

// damages are what may have become of a file.
func damages(b []byte) map[string][]byte {
	d := map[string][]byte{
		"empty":             {},
		"one byte":          b[:1],
		"half a header":     b[:13],
		"a header":          b[:26],
		"a header and hash": b[:26+32],
		"half":              b[:len(b)/2],
		"without its end":   b[:len(b)-1],
		"with something":    append(bytes.Clone(b), 0),
		"zeros":             make([]byte, len(b)),
		"another format":    []byte(`{"AccessToken":{}}`),
	}
	for i := range b {
		if i == 8 { // the format's number, which a later release writes
			continue
		}
		altered := bytes.Clone(b)
		altered[i] ^= 1
		d["altered at "+string(rune('a'+i%26))+" "+string(rune('a'+i/26))] = altered
	}
	return d
}

// A damaged file is set aside whole, with its new name told, and the next access begins
// a new one.
func TestDamaged(t *testing.T) {
	t.Parallel()
	_, good := filled(t, file.Options{})
	for what, b := range damages(good) {
		dir := directory(t)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, filepath.Join(dir, "default.tokens"), b)
		_, err := file.Open(t.Context(), &file.Options{Dir: dir})
		wantAside(t, what, err, b)
		p := open(t, &file.Options{Dir: dir})
		if _, err := p.Load(t.Context(), name("x")); !errors.Is(err, tokencache.ErrNotFound) {
			t.Errorf("%s: afterwards: %v", what, err)
		}
	}
}

// wantAside fails unless the error names a file with these bytes.
func wantAside(t testing.TB, what string, err error, b []byte) {
	t.Helper()
	var corrupt *file.CorruptError
	if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), corrupt.Path) {
		t.Fatalf("%s: %v", what, err)
	}
	if aside, err := os.ReadFile(corrupt.Path); err != nil || !bytes.Equal(aside, b) {
		t.Errorf("%s: what was set aside is not the file: %v", what, err)
	}
}

func mustWrite(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A program that runs finds the damage at its next access, whatever that is, and goes on.
func TestDamagedMeanwhile(t *testing.T) {
	t.Parallel()
	for what, access := range map[string]func(context.Context, *file.Provider) error{
		"load": func(ctx context.Context, p *file.Provider) error { _, err := p.Load(ctx, name("x")); return err },
		"save": func(ctx context.Context, p *file.Provider) error {
			return p.Save(ctx, name("y"), record("marker-y"), always)
		},
		"acquire": func(ctx context.Context, p *file.Provider) error {
			_, err := p.Acquire(ctx, name("x"), 1e9)
			return err
		},
		"ping": func(ctx context.Context, p *file.Provider) error { return p.Ping(ctx) },
	} {
		dir, good := filled(t, file.Options{})
		p := open(t, &file.Options{Dir: dir})
		var taken [][]byte
		for i := range 3 {
			damaged := append([]byte{byte(i)}, good[:20]...)
			mustWrite(t, filepath.Join(dir, "default.tokens"), damaged)
			wantAside(t, what, access(t.Context(), p), damaged)
			if err := p.Save(t.Context(), name("x"), record("marker-again"), always); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			mustHold(t, p, name("x"), "marker-again")
			taken = append(taken, damaged)
		}
		aside, err := filepath.Glob(filepath.Join(dir, "default.aside-*"))
		if err != nil || len(aside) != len(taken) {
			t.Errorf("%s: %d files are aside, want %d", what, len(aside), len(taken))
		}
	}
}

// Who signs in does so over a damaged file: where it is, is in the log.
func TestDamagedBeforeSignIn(t *testing.T) {
	t.Parallel()
	dir, good := filled(t, file.Options{})
	var log bytes.Buffer
	p := open(t, &file.Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	cache := newCache(t, p, nil)
	mustWrite(t, filepath.Join(dir, "default.tokens"), append([]byte("x"), good...))
	if _, err := p.Load(t.Context(), name("x")); err == nil || log.Len() > 0 {
		t.Errorf("%v, and the log has %d bytes", err, log.Len())
	}
	mustWrite(t, filepath.Join(dir, "default.tokens"), append([]byte("y"), good...))
	if err := p.Save(t.Context(), name("y"), record("marker-y"), always); err == nil || !strings.Contains(log.String(), "set aside as "+dir) {
		t.Errorf("%v, and the log says: %s", err, log.String())
	}
	signIn(t, cache)
	if accounts, err := cache.Accounts(t.Context()); err != nil || len(accounts) != 1 {
		t.Errorf("%d accounts, %v", len(accounts), err)
	}
}

// What a later release has written is neither read nor set aside.
func TestNewerFormat(t *testing.T) {
	t.Parallel()
	dir, b := filled(t, file.Options{})
	b[8] = 2
	path := filepath.Join(dir, "default.tokens")
	mustWrite(t, path, b)
	_, err := file.Open(t.Context(), &file.Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "later release") {
		t.Error(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, b) {
		t.Error("it was changed:", err)
	}
}

// Larger than any file of this package, and not read to its end.
func TestHuge(t *testing.T) {
	t.Parallel()
	dir, good := filled(t, file.Options{})
	path := filepath.Join(dir, "default.tokens")
	mustWrite(t, path, good)
	if err := os.Truncate(path, 1<<36); err != nil {
		t.Skip("no sparse files here:", err)
	}
	_, err := file.Open(t.Context(), &file.Options{Dir: dir})
	var corrupt *file.CorruptError
	if !errors.As(err, &corrupt) {
		t.Error(err)
	}
}

// Leases need no order: a file of them that is damaged has none.
func TestDamagedLeases(t *testing.T) {
	t.Parallel()
	dir, _ := filled(t, file.Options{})
	p := open(t, &file.Options{Dir: dir})
	for _, text := range []string{"", "x", "[", "[{}]", `[{"since":-1,"until":9223372036854775807}]`, "null"} {
		mustWrite(t, filepath.Join(dir, "default.leases"), []byte(text))
		l, err := p.Acquire(t.Context(), name("x"), 1e9)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if err := l.Release(t.Context()); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}
