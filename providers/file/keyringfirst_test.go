package file_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

// Caches of one name in several directories are begun at the same moment: they share an
// entry in the key store, and the key of none is lost.
func TestKeyOfSeveralDirectories(t *testing.T) {
	t.Parallel()
	for range 5 {
		beginTogether(t, testserver.NewKeyring(t).Env())
	}
}

func beginTogether(t *testing.T, session []string) {
	t.Helper()
	const processes = 8
	base := t.TempDir()
	dir := func(i int) string { return filepath.Join(base, strconv.Itoa(i)) }
	var cmds [processes]*exec.Cmd
	var out [processes]bytes.Buffer
	for i := range cmds {
		cmds[i] = child(t.Context(), "use", dir(i), session...)
		cmds[i].Stdout = &out[i]
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil || strings.Contains(out[i].String(), "error") {
			t.Errorf("the first process of directory %d: %v: %s", i, err, out[i].String())
		}
	}
	for i := range cmds {
		if said := run(t, child(t.Context(), "use", dir(i), session...)); said != "had 1" {
			t.Errorf("the second process of directory %d says %q", i, said)
		}
	}
}

// A plain file that is allowed is written also while a keyring that could encrypt it
// waits for a password that nobody types; and is encrypted when it answers.
func TestPlainWhileKeyringPrompts(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	run(t, child(t.Context(), "use", p.dir, noStore, plainVariable+"=1"))
	p.must(p.session.Prompt())
	p.must(p.session.Lock())
	allowed := append(p.session.Env(), plainVariable+"=1")
	if said := run(t, child(t.Context(), "use", p.dir, allowed...)); said != "had 1" {
		t.Errorf("a process says: %s", said)
	}
	p.must(p.session.Unlock())
	if said := run(t, child(t.Context(), "use", p.dir, allowed...)); said != "had 2" {
		t.Errorf("a process says: %s", said)
	}
	p.has("3") // which does not allow a plain file
}
