package tokencache_test

import (
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
