package tokencache

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the tests of the document share.
const (
	testClient  = "client"
	testAccount = "uid.utid"
	testEnv     = "login.example"
)

var testNow = time.Unix(1_795_246_000, 0) //nolint:gochecknoglobals // a constant

func testWriter() *writer {
	return &writer{clientID: testClient, environment: testEnv, account: testAccount}
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustParse(t testing.TB, text string) *document {
	t.Helper()
	d, err := parseDocument([]byte(text))
	if err != nil {
		t.Fatalf("parseDocument: %v", err)
	}
	return d
}

func encoded(d *document) string {
	b, _ := d.encode()
	return string(b)
}

func mustSnapshot(t testing.TB, d *document, now time.Time) *snapshot {
	t.Helper()
	plain, err := encodePlain(meta{generation: generation{1}}, d, now)
	if err != nil {
		t.Fatalf("encodePlain: %v", err)
	}
	s, err := parsePlain(plain)
	if err != nil {
		t.Fatalf("parsePlain: %v", err)
	}
	return s
}

func mustApply(t testing.TB, d *document, c change, w *writer, now time.Time) {
	t.Helper()
	if err := d.apply(&c, w, now); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

// fields is an item in a test: name, value, name, value. Values are text.
func fields(pairs ...string) string {
	var b []byte
	for i := 0; i < len(pairs); i += 2 {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, pairs[i]), ':')
		b = appendQuoted(b, pairs[i+1])
	}
	return "{" + string(b) + "}"
}

// accessItem is an access token of the test account; more fields may follow.
func accessItem(secret string, cached, expires time.Duration, scopes string, more ...string) string {
	return fields(append([]string{
		"home_account_id", testAccount, "environment", testEnv, "client_id", testClient, "realm", "utid",
		"credential_type", "AccessToken", "secret", secret, "target", scopes,
		"cached_at", unixText(testNow.Add(cached)), "expires_on", unixText(testNow.Add(expires)),
	}, more...)...)
}

func unixText(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// sectionOf is a document with one section, whose keys are numbers.
func sectionOf(name string, items ...string) string {
	var b strings.Builder
	b.WriteString(`{"` + name + `":{`)
	for i, it := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + strconv.Itoa(i) + `":` + it)
	}
	return b.String() + "}}"
}

// sectionsOf decodes a document with encoding/json, without the dictionary
// keys: section, then the items' fields.
func sectionsOf(t testing.TB, text string) map[string][]map[string]any {
	t.Helper()
	var raw map[string]map[string]map[string]any
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	out := map[string][]map[string]any{}
	for name, items := range raw {
		for _, it := range items {
			out[name] = append(out[name], it)
		}
	}
	return out
}

func wantSame(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
