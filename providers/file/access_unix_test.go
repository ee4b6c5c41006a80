//go:build unix

package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/file"
)

// What others may use is refused, and left as it is: by who opens it, and by who has.
func TestAccess(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		change func(dir, path string) error
		says   string
	}{
		"readable directory": {func(dir, _ string) error { return os.Chmod(dir, 0o750) }, "chmod"},
		"writable directory": {func(dir, _ string) error { return os.Chmod(dir, 0o702) }, "chmod"},
		"readable file":      {func(_, path string) error { return os.Chmod(path, 0o644) }, "chmod"},
		"link to elsewhere": {func(dir, path string) error {
			target := filepath.Join(filepath.Dir(dir), "target")
			return errors.Join(os.Rename(path, target), os.Symlink(target, path))
		}, ""},
		"FIFO": {func(_, path string) error {
			return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600))
		}, "regular"},
		"directory in its place": {func(_, path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		}, "regular"},
		"another's file":      {func(_, path string) error { return chown(path) }, "belongs"},
		"another's directory": {func(dir, _ string) error { return chown(dir) }, "belongs"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir, _ := filled(t, file.Options{})
			p := open(t, &file.Options{Dir: dir})
			if err := tt.change(dir, filepath.Join(dir, "default.tokens")); err != nil {
				if errors.Is(err, errNotRoot) {
					t.Skip(err)
				}
				t.Fatal(err)
			}
			began := time.Now()
			_, opened := file.Open(t.Context(), &file.Options{Dir: dir})
			_, loaded := p.Load(t.Context(), name("x"))
			saved := p.Save(t.Context(), name("x"), record("marker-other"), always)
			for call, err := range map[string]error{"open": opened, "load": loaded, "save": saved} {
				if err == nil || what != "link to elsewhere" && !errors.Is(err, file.ErrAccess) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s: %v", call, err)
				}
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

var errNotRoot = errors.New("needs root")

// chown gives a file to somebody else.
func chown(path string) error {
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	return os.Chown(path, 12345, -1)
}
