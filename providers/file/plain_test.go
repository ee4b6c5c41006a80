package file_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/providers/file"
)

// noStore is a session without a Secret Service.
const noStore = "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent/bus"

// Without a store for the key nothing is stored, unless that is allowed: then a plain
// file is, which is said once, and which is encrypted as soon as there is a store.
func TestNoKeyStore(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("needs a session without a Secret Service")
	}
	dir := directory(t)
	path := filepath.Join(dir, "default.tokens")
	var said string
	for _, env := range []string{"DBUS_SESSION_BUS_ADDRESS=", noStore} {
		said = run(t, child(t.Context(), "use", dir, env))
		for _, want := range []string{"gnome-keyring", "dbus-run-session", "passphrase", "unencrypted"} {
			if !strings.Contains(said, want) {
				t.Errorf("with %s it says nothing of %s: %s", env, want, said)
			}
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("a file was written")
	}
	said = run(t, child(t.Context(), "use", dir, noStore, plainVariable+"=1"))
	if strings.Count(said, "stored unencrypted") != 1 || !strings.Contains(said, "had 0") || strings.Contains(said, "error:") {
		t.Errorf("the first process says: %s", said)
	}
	if said := run(t, child(t.Context(), "use", dir, noStore, plainVariable+"=1")); said != "had 1" {
		t.Errorf("the second process says: %s", said)
	}

	// This process has a store.
	if _, err := file.Open(t.Context(), &file.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "not encrypted") {
		t.Errorf("a plain file was opened unasked: %v", err)
	}
	var log bytes.Buffer
	p := open(t, &file.Options{Dir: dir, AllowUnencryptedStorage: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
	mustHold(t, p, name("1"), "marker-child")
	if err := p.Save(t.Context(), name("x"), record("marker-x"), always); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || bytes.Contains(b, []byte("marker")) || log.Len() > 0 {
		t.Errorf("the file is still plain (%v), or something was said", err)
	}
	mustHold(t, open(t, &file.Options{Dir: dir}), name("0"), "marker-child")

	// And now there is none again: what is encrypted is not begun anew.
	said = run(t, child(t.Context(), "use", dir, noStore, plainVariable+"=1"))
	if !strings.Contains(said, "key store") || strings.Contains(said, "had") {
		t.Errorf("without the store it says: %s", said)
	}
	mustHold(t, p, name("x"), "marker-x")
}

// The passphrase encrypts a plain file as well.
func TestPlainUnderPassphrase(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("needs a session without a Secret Service")
	}
	dir := directory(t)
	run(t, child(t.Context(), "use", dir, noStore, plainVariable+"=1"))
	o := withPhrase(dir)
	if _, err := file.Open(t.Context(), o); err == nil || errors.Is(err, file.ErrKey) {
		t.Errorf("a plain file was opened unasked: %v", err)
	}
	o.AllowUnencryptedStorage = true
	if err := open(t, o).Save(t.Context(), name("x"), record("marker-x"), always); err != nil {
		t.Fatal(err)
	}
	o.AllowUnencryptedStorage = false
	mustHold(t, open(t, o), name("0"), "marker-child")
}
