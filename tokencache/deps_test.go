package tokencache_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// An application that uses the core must not link a driver, a web framework or
// an OAuth library with it.
func TestImports(t *testing.T) {
	t.Parallel()
	const module = "github.com/coatcheck-go/coatcheck"
	for pkg, allowed := range map[string][]string{
		module + "/tokencache": {
			module + "/tokencache",
			"github.com/maypok86/otter/v2",
			"golang.org/x/sync",
			"github.com/sony/gobreaker/v2",
		},
		module + "/tokencache/providertest": { // linked into the tests of other modules
			module + "/tokencache",
			"github.com/maypok86/otter/v2",
			"golang.org/x/sync",
			"github.com/sony/gobreaker/v2",
			"github.com/anishathalye/porcupine",
		},
		module + "/middleware": {
			module + "/middleware",
			module + "/tokencache",
			"github.com/maypok86/otter/v2",
			"golang.org/x/sync",
			"github.com/sony/gobreaker/v2",
		},
	} {
		for _, dep := range dependencies(t, pkg) {
			if !within(dep, allowed) {
				t.Errorf("%s imports %s", pkg, dep)
			}
		}
	}
}

func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 2 {
		t.Fatalf("go list found %d packages: the test looks at nothing", len(deps))
	}
	return deps
}

func within(pkg string, allowed []string) bool {
	for _, prefix := range allowed {
		if pkg == prefix || strings.HasPrefix(pkg, prefix+"/") {
			return true
		}
	}
	return false
}

// A constant or conversion that needs 64 bits would break 32-bit machines, on
// which nobody runs the tests.
func TestBuildsFor32Bit(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "build", ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=386", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go build for 386: %v\n%s", err, out)
	}
}
