package legacy_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/legacy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// readLayout reads a file of hexadecimal bytes, texts behind "> " and comments.
func readLayout(tb testing.TB, name string) []byte {
	tb.Helper()
	var b []byte
	for line := range strings.Lines(string(readFile(tb, name))) {
		line = strings.TrimSuffix(line, "\n")
		if text, ok := strings.CutPrefix(line, "> "); ok {
			b = append(b, text...)
			continue
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		part, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
		if err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		b = append(b, part...)
	}
	return b
}

func mustRead(tb testing.TB, b []byte, want legacy.Format) *tokencache.Tokens {
	tb.Helper()
	var t tokencache.Tokens
	f, err := legacy.Read(&t, b)
	if err != nil || f != want {
		tb.Fatalf("read %v: %v, want %v", f, err, want)
	}
	return &t
}

func mustWrite(tb testing.TB, t *tokencache.Tokens, f legacy.Format) []byte {
	tb.Helper()
	b, err := legacy.Write(t, f)
	if err != nil {
		tb.Fatalf("write %v: %v", f, err)
	}
	return b
}

func unified(tb testing.TB, t *tokencache.Tokens) string {
	tb.Helper()
	return string(mustWrite(tb, t, legacy.Unified))
}

// compact is a document as Tokens write it.
func compact(tb testing.TB, document []byte) string {
	tb.Helper()
	return unified(tb, mustRead(tb, document, legacy.Unified))
}

// wantSame compares documents, and shows where they differ without their texts.
func wantSame(tb testing.TB, what, got, want string) {
	tb.Helper()
	if got == want {
		return
	}
	var g, w any
	if json.Unmarshal([]byte(got), &g) != nil || json.Unmarshal([]byte(want), &w) != nil {
		tb.Errorf("%s: the result is another one", what)
		return
	}
	var r paths
	cmp.Equal(g, w, cmp.Reporter(&r))
	tb.Errorf("%s: the documents differ at\n%s", what, strings.Join(r.found, "\n"))
}

// paths is a cmp reporter that tells where, and not what.
type paths struct {
	path  cmp.Path
	found []string
}

func (r *paths) PushStep(s cmp.PathStep) { r.path = append(r.path, s) }
func (r *paths) PopStep()                { r.path = r.path[:len(r.path)-1] }
func (r *paths) Report(result cmp.Result) {
	if !result.Equal() {
		r.found = append(r.found, r.path.GoString())
	}
}

// wantUnreadable checks the error, and that it repeats nothing of the input: what the
// tests put there has "marker" in it, or is as telling as an address.
func wantUnreadable(tb testing.TB, what string, err error) {
	tb.Helper()
	switch {
	case err == nil:
		tb.Errorf("%s: no error", what)
	case !errors.Is(err, tokencache.ErrUnreadable) || errors.Is(err, tokencache.ErrTooLarge):
		tb.Errorf("%s: the error is not ErrUnreadable", what)
	case !strings.HasPrefix(err.Error(), "legacy: "):
		tb.Errorf("%s: the error does not say where it comes from", what)
	}
	for _, word := range []string{"marker", "example", "uid", "@", "client"} {
		if err != nil && strings.Contains(err.Error(), word) {
			tb.Errorf("%s: the error repeats the input", what)
		}
	}
}

// refuses reads what must not be read, into tokens that must stay as they are.
func refuses(tb testing.TB, what string, b []byte) {
	tb.Helper()
	t := mustRead(tb, readFile(tb, "msal-v2.unified.json"), legacy.Unified)
	before, input := unified(tb, t), bytes.Clone(b)
	_, err := legacy.Read(t, b)
	wantUnreadable(tb, what, err)
	if unified(tb, t) != before {
		tb.Errorf("%s: the tokens were changed", what)
	}
	if !bytes.Equal(b, input) {
		tb.Errorf("%s: the input was changed", what)
	}
}
