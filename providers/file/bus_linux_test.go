package file_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// No session is started where there is none: its keyring would be empty, and nobody
// would end it.
func TestStartsNoSession(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/run/user/" + strconv.Itoa(os.Getuid()) + "/bus"); err == nil {
		t.Skip("there is a session")
	}
	bin, dir := t.TempDir(), directory(t)
	script := "#!/bin/sh\n: > " + filepath.Join(bin, "started") + "\necho DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent/bus\n"
	if err := os.WriteFile(filepath.Join(bin, "dbus-launch"), []byte(script), 0o700); err != nil { // #nosec G306 -- a program
		t.Fatal(err)
	}
	for _, address := range []string{"", "autolaunch:"} {
		said := run(t, child(t.Context(), "use", dir, "PATH="+bin+":"+os.Getenv("PATH"), "DBUS_SESSION_BUS_ADDRESS="+address))
		if !strings.Contains(said, "gnome-keyring") {
			t.Error("it says:", said)
		}
		if _, err := os.Stat(filepath.Join(bin, "started")); err == nil {
			t.Errorf("with %q a session was started", address)
		}
	}
}
