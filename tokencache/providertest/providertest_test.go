package providertest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness has two providers over one store, like two machines.
func harness(f fault) providertest.Harness {
	return providertest.Harness{
		New: func(*testing.T) tokencache.Provider { return newReference(f) },
		Peer: func(_ *testing.T, first tokencache.Provider) tokencache.Provider {
			return &reference{fault: f, store: first.(*reference).store}
		},
		Around: synctest.Test,
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	providertest.Run(t, harness(fault(os.Getenv(faultVariable))))
}

// TestRealTime runs with the harness's defaults, but for the time it takes.
func TestRealTime(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New:    func(*testing.T) tokencache.Provider { return newReference(none) },
		Expiry: 30 * time.Millisecond,
	})
}

// bare offers what the contract asks for, and nothing else.
type bare struct{ *reference }

func (bare) Capabilities() tokencache.Capabilities { return tokencache.Capabilities{} }

func TestNothingOffered(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New:    func(*testing.T) tokencache.Provider { return bare{newReference(none)} },
		Around: synctest.Test,
	})
}

// TestRules compares what failures quote with the comments that make promises.
func TestRules(t *testing.T) {
	t.Parallel()
	for file, sources := range map[string][]string{
		"rules.go": {"provider.go", "capabilities.go"},
		"cacherules.go": {
			"doc.go", "partition.go", "signin.go", "signout.go", "sid.go", "ticket.go", "options.go", "errors.go", "capabilities.go",
		},
	} {
		var contract strings.Builder
		for _, source := range sources {
			text, err := os.ReadFile("../" + source)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				contract.WriteString(strings.TrimPrefix(strings.TrimSpace(line), "//") + " ")
			}
		}
		// Links and lists are how the text is laid out.
		text := squeeze(strings.NewReplacer("[", "", "]", "", " - ", " ").Replace(contract.String()))

		rules, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		checked := 0
		ast.Inspect(rules, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok {
				return true
			}
			rule, err := strconv.Unquote(literal.Value)
			if err != nil || !strings.Contains(text, squeeze(rule)) {
				t.Errorf("%v do not say: %s", sources, literal.Value)
			}
			checked++
			return true
		})
		if checked == 0 {
			t.Error("no rules were found in", file)
		}
	}
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
