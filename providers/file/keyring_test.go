package file_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/providers/file"
)

// place is a cache as processes of one session see it, on a real keyring.
type place struct {
	*testing.T
	dir     string
	session *testserver.Keyring
	said    map[string]string // by what is wrong
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return &place{T: t, dir: directory(t), session: testserver.NewKeyring(t), said: map[string]string{}}
}

func (p *place) path() string { return filepath.Join(p.dir, "default.tokens") }

// uses runs a process that uses the cache, in that session.
func (p *place) uses(session *testserver.Keyring) string {
	p.Helper()
	return run(p.T, child(p.Context(), "use", p.dir, session.Env()...))
}

// has fails unless a process finds that many records, of which one is its own.
func (p *place) has(want string) {
	p.Helper()
	if said := p.uses(p.session); said != "had "+want {
		p.Errorf("a process says %q, want %s records", said, want)
	}
}

// refused runs a process that cannot use the cache, and has to say why, in other words
// than for anything else. It leaves the file as it was.
func (p *place) refused(what, want string) {
	p.Helper()
	before, _ := os.ReadFile(p.path())
	said := p.uses(p.session)
	if !strings.Contains(said, "error: ") || !strings.Contains(said, want) || strings.Contains(said, "marker") {
		p.Errorf("%s: a process says: %s", what, said)
	}
	for other, text := range p.said {
		if text == said {
			p.Errorf("%s and %s: the same words", what, other)
		}
	}
	p.said[what] = said
	if after, _ := os.ReadFile(p.path()); !bytes.Equal(after, before) {
		p.Errorf("%s: the file was changed", what)
	}
}

func (p *place) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// One process stores, the next one reads, whatever comes between them.
func TestKeyring(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	k := p.session
	p.has("0")
	p.has("1")
	b, err := os.ReadFile(p.path())
	if err != nil || bytes.Contains(b, []byte("marker")) {
		t.Fatal("it is not encrypted:", err)
	}

	p.must(k.Lock())
	p.refused("locked", "locked")
	p.must(k.Unlock())
	p.has("2")
	p.must(k.Pause())
	p.refused("silent", "in time")
	p.must(k.Resume())
	p.has("3")
	p.must(k.Kill())
	p.refused("absent", "there is none for this session")
	p.must(k.Start())
	p.has("4")

	truncated, err := os.ReadFile(p.path())
	p.must(err)
	p.must(os.Truncate(p.path(), int64(len(truncated)/2)))
	said := p.uses(k)
	if !strings.Contains(said, "was set aside as "+p.dir) {
		t.Errorf("truncated: a process says: %s", said)
	}
	p.said["truncated"] = said
	p.must(os.WriteFile(p.path(), truncated, 0o600))
	p.has("5")

	p.must(k.Delete())
	p.refused("deleted", "no default keyring")
	p.must(k.Wipe())
	p.refused("wiped", "as if it had been wiped")
}

// A keyring that waits for somebody to type its password is waited for, but not longer
// than the caller likes.
func TestKeyringPrompts(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.has("0")
	p.must(p.session.Prompt())
	p.must(p.session.Lock())
	p.refused("prompting", "waiting for a password")
	p.must(p.session.Unlock())
	p.has("1")
}

// A file of somebody else's, or a copy on another machine, does not open; nor is it
// written over. Who has lost a key for good sets the file aside.
func TestSwapped(t *testing.T) {
	t.Parallel()
	mine, theirs := newPlace(t), newPlace(t)
	mine.has("0")
	theirs.has("0")
	own, err := os.ReadFile(mine.path())
	mine.must(err)
	swapped, err := os.ReadFile(theirs.path())
	mine.must(err)
	mine.must(os.WriteFile(mine.path(), swapped, 0o600))
	mine.refused("swapped", "another user's or another machine's")
	mine.must(os.WriteFile(mine.path(), own, 0o600))
	mine.has("1")

	elsewhere := newPlace(t) // with an empty keyring
	mine.must(os.MkdirAll(elsewhere.dir, 0o700))
	mine.must(os.WriteFile(elsewhere.path(), own, 0o600))
	elsewhere.refused("copied", "another machine's")
	path, err := file.SetAside(t.Context(), &file.Options{Dir: elsewhere.dir})
	if aside, _ := os.ReadFile(path); err != nil || !bytes.Equal(aside, own) { // #nosec G304 -- of this test
		t.Errorf("what was set aside is not the file: %v", err)
	}
	elsewhere.has("0")
	elsewhere.has("1")
	if path, err := file.SetAside(context.Background(), &file.Options{Dir: directory(t)}); path != "" || err != nil {
		t.Errorf("of no file: %q, %v", path, err)
	}
}

// What is stored survives a disk that has no room, or cannot be written: it is read, and
// whoever changes it is told why that cannot be.
func TestDisk(t *testing.T) {
	t.Parallel()
	disk := testserver.NewDisk(t, 1<<20)
	p := newPlace(t)
	p.dir = filepath.Join(disk.Dir(), "coatcheck")
	p.has("0")
	p.must(disk.Fill())
	p.refused("full", "disk is full")
	p.must(disk.Free())
	p.has("1")
	p.must(disk.ReadOnly(true))
	p.refused("read-only", "disk is read-only")
	for what, said := range p.said {
		if !strings.HasPrefix(said, "had ") {
			t.Errorf("%s: it does not read: %s", what, said)
		}
	}
	p.must(disk.ReadOnly(false))
	p.has("2")

	empty := newPlace(t)
	empty.dir = filepath.Join(disk.Dir(), "empty")
	p.must(disk.ReadOnly(true))
	empty.refused("read-only, and no file", "disk is read-only")
}

// Another user of the machine neither opens the cache nor reads its file.
func TestAnotherUser(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.dir = filepath.Join(testserver.PublicDir(t), "coatcheck")
	p.has("0")
	as := func(cmd *exec.Cmd) string {
		testserver.AsOtherUser(t, cmd)
		return run(t, cmd)
	}
	if said := as(child(t.Context(), "read", p.dir)); !strings.Contains(said, "permission denied") {
		t.Errorf("the file can be read: %s", said)
	}
	if said := as(child(t.Context(), "use", p.dir, phrase)); !strings.Contains(said, "this user may not use the token cache") {
		t.Errorf("opening it says: %s", said)
	}
	p.must(os.Chmod(p.dir, 0o755))    // #nosec G302 -- somebody has opened it
	p.must(os.Chmod(p.path(), 0o644)) // #nosec G302
	if said := as(child(t.Context(), "use", p.dir, phrase)); !strings.Contains(said, "belongs to user") {
		t.Errorf("opening it says: %s", said)
	}
	p.refused("open to others", "chmod")
}
