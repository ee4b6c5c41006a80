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

// TestRules compares what failures quote with the contract's comments.
func TestRules(t *testing.T) {
	t.Parallel()
	var contract strings.Builder
	for _, file := range []string{"../provider.go", "../capabilities.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(source)) {
			contract.WriteString(strings.TrimPrefix(strings.TrimSpace(line), "//") + " ")
		}
	}
	// Links and lists are how the text is laid out.
	text := squeeze(strings.NewReplacer("[", "", "]", "", " - ", " ").Replace(contract.String()))

	rules, err := parser.ParseFile(token.NewFileSet(), "rules.go", nil, 0)
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
			t.Errorf("the contract does not say: %s", literal.Value)
		}
		checked++
		return true
	})
	if checked == 0 {
		t.Error("no rules were found")
	}
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
