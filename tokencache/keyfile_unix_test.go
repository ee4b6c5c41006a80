//go:build unix

package tokencache

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestKeyFileModes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "keys.json"), filepath.Join(dir, "link")
	if err := CreateKeyFile(file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("a new key file has the mode %v, %v, want 0600", info.Mode(), err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := CreateKeyFile(link); err == nil {
		t.Error("a symbolic link was followed to write")
	}
	for mode, good := range map[fs.FileMode]bool{
		0o600: true, 0o400: true, 0o700: true,
		0o640: false, 0o620: false, 0o610: false, 0o604: false, 0o602: false, 0o601: false, 0o440: false, 0o644: false, 0o666: false,
	} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{file, link} {
			_, err := LoadKeys(t.Context(), KeyFile(path))
			switch {
			case good && err != nil:
				t.Errorf("mode %04o: %v", mode, err)
			case !good && (err == nil || !strings.Contains(err.Error(), fmt.Sprintf("(mode %04o): chmod 600", mode)) || !strings.Contains(err.Error(), path)):
				t.Errorf("mode %04o: got %v, want to be told what to do", mode, err)
			}
		}
	}
}

func TestKeyFileOwners(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		owner, user int64
		mode        fs.FileMode
		want        string
	}{
		{1000, 1000, 0o600, ""},
		{0, 1000, 0o400, ""},
		{0, 0, 0o600, ""},
		{1001, 1000, 0o600, "chown it to user 1000, or to root"},
		{1000, 0, 0o600, "chown it to user 0"},
		{0, 1000, 0o440, "chmod 600"},
		{1 << 31, 1000, 0o600, "user 2147483648 owns"},
	} {
		err := checkOwnerAndMode(tt.owner, tt.user, tt.mode)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
	if os.Geteuid() != 0 {
		return // only root gives files away
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := CreateKeyFile(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeys(t.Context(), KeyFile(file)); err == nil || !strings.Contains(err.Error(), "user 12345 owns") {
		t.Errorf("the file of another user: got %v", err)
	}
}

// A FIFO without a writer would hold an open for ever, and a device has effects.
func TestKeyFileThatIsNone(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, os.DevNull} {
		if _, err := LoadKeys(t.Context(), KeyFile(path)); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: got %v", path, err)
		}
	}
}
