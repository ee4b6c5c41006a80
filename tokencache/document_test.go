package tokencache

import (
	"errors"
	"strings"
	"testing"
)

const emptyDocument = `{"AccessToken":{},"RefreshToken":{},"IdToken":{},"Account":{},"AppMetadata":{}}`

func TestParseDocument(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", emptyDocument},
		{"blank", " \r\n\t", emptyDocument},
		{"null", "null", emptyDocument},
		{"no sections", "{}", emptyDocument},
		{"null sections", `{"AccessToken":null,"X":null}`, emptyDocument},
		{"the future", string(readFile(t, "cache-from-the-future.json")),
			strings.TrimSuffix(string(readFile(t, "cache-from-the-future.golden.json")), "\n")},
	} {
		d := mustParse(t, tt.text)
		if got := encoded(d); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
		if got := encoded(mustParse(t, encoded(d))); got != tt.want {
			t.Errorf("%s: writing it again gives\n%s", tt.name, got)
		}
	}
}

func TestParseDocumentRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no JSON":                   `{"RefreshToken":{"k":{"secret":"marker`,
		"garbage in a token":        `{"RefreshToken":{"k":{"secret":"marker` + "\x01" + `"}}}`,
		"a list":                    `["marker"]`,
		"a text":                    `"marker"`,
		"a section that is a list":  `{"RefreshToken":["marker"]}`,
		"a section that is a text":  `{"RefreshToken":"marker"}`,
		"an item that is a text":    `{"RefreshToken":{"marker":"marker"}}`,
		"a secret that is a list":   `{"RefreshToken":{"marker":{"secret":["marker"]}}}`,
		"a section twice":           `{"RefreshToken":{"marker":{}},"RefreshToken":{}}`,
		"an unknown member twice":   `{"marker":1,"marker":2}`,
		"a member twice, escaped":   `{"AccessToken":null,"Access\u0054oken":{"marker":{}}}`,
		"a key twice":               `{"RefreshToken":{"marker":{},"marker":{}}}`,
		"a field twice":             `{"RefreshToken":{"marker":{"secret":"marker","secret":"marker"}}}`,
		"nested too deep, unknown":  `{"marker":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
		"byte order mark":           "\uFEFF{}",
		"two documents":             `{}{"marker":1}`,
		"a time that is not a time": `{"RefreshToken":{"marker":{"cached_at":{]}}}}`,
	} {
		d, err := parseDocument([]byte(text))
		switch {
		case err == nil:
			t.Errorf("%s: accepted as %s", name, encoded(d))
		case strings.Contains(err.Error(), "marker"):
			t.Errorf("%s: the error repeats the input: %v", name, err)
		case !strings.HasPrefix(err.Error(), "tokencache: "):
			t.Errorf("%s: the error does not say where it is from: %v", name, err)
		}
	}
}

func TestParseDocumentLimit(t *testing.T) {
	t.Parallel()
	long := `{"x":"` + strings.Repeat("x", MaxTokensSize-8) + `"}`
	if _, err := parseDocument([]byte(long)); len(long) != MaxTokensSize || err != nil {
		t.Errorf("%d bytes: %v", len(long), err)
	}
	if _, err := parseDocument([]byte(long + " ")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one more: %v", err)
	}
	// What would be slow if every member were compared with every other.
	many := strings.TrimSuffix(strings.Repeat(`"a":{},`, MaxTokensSize/8), ",")
	for _, text := range []string{"{" + many + "}", `{"Account":{` + many + `}}`, `{"Account":{"k":{` + many + `}}}`} {
		if _, err := parseDocument([]byte(text)); err == nil {
			t.Error("a name that is there a hundred thousand times was accepted")
		}
	}
}

// Items that MSAL.NET would file under one key are all kept.
func TestEncodeKeepsItemsWithOneKey(t *testing.T) {
	t.Parallel()
	item := func(client, realm, hash string) string {
		return fields("home_account_id", "h", "environment", "e", "client_id", client, "realm", realm,
			"target", "s", "user_assertion_hash", hash, "secret", client+realm+hash)
	}
	items := []string{item("a", "b-c", ""), item("a-b", "c", ""), item("A", "b-c", ""), item("a", "b-c", "1"), item("a", "b-c", "2")}
	d := mustParse(t, sectionOf("AccessToken", items...))
	text := encoded(d)
	wantSame(t, "items", len(mustParse(t, text).sections[accessTokens]), len(items))
	items[0], items[3] = items[3], items[0]
	if got := encoded(mustParse(t, sectionOf("AccessToken", items...))); got != text {
		t.Errorf("another order of the input gives other bytes:\n%s\n%s", got, text)
	}
	if !strings.Contains(text, `"h-e-accesstoken-a-b-c-s":`) {
		t.Errorf("no item has the canonical key: %s", text)
	}
}
