package file_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/providers/file"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"-", ".", "..", "../x", "a/b", `a\b`, "A", "Ä", "a b", "a\x00", "con", "nul.x", "com1", strings.Repeat("a", 65), "-a", ".hidden",
	} {
		dir := directory(t)
		p, err := file.Open(t.Context(), &file.Options{Name: name, Dir: dir})
		if p != nil || err == nil || !strings.Contains(err.Error(), "Options.Name") {
			t.Errorf("the name %q: %v", name, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("the name %q: something was written", name)
		}
	}
	for _, name := range []string{"", "a", "contoso-cli", "console", "0", "a.b_c-d", strings.Repeat("a", 64)} {
		p, err := file.Open(t.Context(), &file.Options{Name: name, Dir: directory(t)})
		if err != nil {
			t.Errorf("the name %q: %v", name, err)
			continue
		}
		_ = p.Close(context.Background())
	}
	for _, dir := range []string{"relative", "./x", "~/x"} {
		if _, err := file.Open(t.Context(), &file.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "absolute") {
			t.Errorf("the directory %q: %v", dir, err)
		}
	}
}

// The default is where this system keeps the data of the user's programs, and two names
// are two caches.
func TestDefaultDirectory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the places of other systems are not at hand")
	}
	home, data := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	for variable, want := range map[string]string{
		"":         filepath.Join(home, ".local", "share", "coatcheck"),
		"relative": filepath.Join(home, ".local", "share", "coatcheck"),
		data:       filepath.Join(data, "coatcheck"),
	} {
		t.Setenv("XDG_DATA_HOME", variable)
		p, err := file.Open(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Save(t.Context(), name("x"), record("marker-x"), always); err != nil {
			t.Fatal(err)
		}
		_ = p.Close(t.Context())
		for path, mode := range map[string]os.FileMode{want: 0o700, filepath.Join(want, "default.tokens"): 0o600, filepath.Join(want, "default.lock"): 0o600} {
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != mode {
				t.Errorf("with XDG_DATA_HOME %q: %v, want mode %v of %s: %v", variable, err, mode, path, info)
			}
		}
		other, err := file.Open(t.Context(), &file.Options{Name: "other"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Load(t.Context(), name("x")); err == nil {
			t.Error("another name is the same cache")
		}
		_ = other.Close(t.Context())
		if err := os.RemoveAll(want); err != nil {
			t.Fatal(err)
		}
	}
}

// A relative home directory would be another one after a chdir.
func TestRelativeHome(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("HOME", "home")
	t.Setenv("LocalAppData", "")
	t.Setenv("USERPROFILE", "home")
	t.Chdir(t.TempDir())
	if _, err := file.Open(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Options.Dir") {
		t.Error(err)
	}
}
