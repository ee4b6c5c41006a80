package legacy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/legacy"
)

func TestMSALRefuses(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat(`{"marker":`, n) + "1" + strings.Repeat("}", n) }
	for name, text := range map[string]string{
		"no JSON":                `[marker]`,
		"trailing comma":         `[{"Key":"accounts","Value":[]},]`,
		"trailing bytes":         `[]marker`,
		"another document":       `[][]`,
		"not UTF-8":              "[{\"Key\":\"marker\xff\",\"Value\":[]}]",
		"a list of lists":        `[[]]`,
		"a list of texts":        `["marker"]`,
		"no name":                `[{"Value":[]}]`,
		"a null name":            `[{"Key":null,"Value":[]}]`,
		"a name that is none":    `[{"Key":["marker"],"Value":[]}]`,
		"a value that is none":   `[{"Key":"accounts","Value":"marker"}]`,
		"a value of a kind":      `[{"Key":"marker","Value":{"marker":1}}]`,
		"two members of a name":  `[{"Key":"marker","Key":"marker","Value":[]}]`,
		"two lists of a name":    `[{"Key":"accounts","Value":[]},{"Key":"accounts","Value":[]}]`,
		"an item that is none":   `[{"Key":"accounts","Value":[{"marker":1}]}]`,
		"an item of no JSON":     `[{"Key":"accounts","Value":["marker"]}]`,
		"an item that is blank":  `[{"Key":"accounts","Value":[" "]}]`,
		"an item that is a list": `[{"Key":"accounts","Value":["[1]"]}]`,
		"an item that goes on":   `[{"Key":"accounts","Value":["{},\"marker\":{}"]}]`,
		"an item that gets out":  `[{"Key":"accounts","Value":["{}},\"RefreshToken\":{\"a\":{}"]}]`,
		"an item of two":         `[{"Key":"accounts","Value":["{} {}"]}]`,
		"an item with two":       `[{"Key":"accounts","Value":["{\"marker\":1,\"marker\":2}"]}]`,
		"an item's field":        `[{"Key":"refresh_tokens","Value":["{\"secret\":{\"marker\":1}}"]}]`,
		"deep":                   `[{"Key":"accounts","Value":[],"More":` + deep(40) + `}]`,
		"very deep":              strings.Repeat("[", 200_000),
		"a deep item":            `[{"Key":"accounts","Value":[` + quoted(deep(40)) + `]}]`,
		"a very deep item":       `[{"Key":"accounts","Value":[` + quoted(deep(9000)) + `]}]`,
		"an item a bit too deep": `[{"Key":"accounts","Value":[` + quoted(deep(31)) + `]}]`,
	} {
		refuses(t, name, []byte(text))
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// A file that was cut anywhere is refused, but for the white space at its end.
func TestMSALTruncated(t *testing.T) {
	t.Parallel()
	b := []byte(strings.TrimSpace(string(readFile(t, "msal-v2.json"))))
	for n := 1; n < len(b); n++ {
		var tokens tokencache.Tokens
		_, err := legacy.Read(&tokens, b[:n])
		wantUnreadable(t, fmt.Sprintf("%d bytes", n), err)
		if len(tokens.Entries()) != 0 {
			t.Errorf("%d bytes: the tokens were changed", n)
		}
	}
}

// What libraries may have left out, or put in, is no reason to sign a user out.
func TestMSALTolerates(t *testing.T) {
	t.Parallel()
	const item = `"{\"home_account_id\":\"u.t\",\"client_id\":\"c\",\"secret\":\"marker-1\",\"later\":{\"a\":[1]}}"`
	for name, text := range map[string]string{
		"one list":       `[{"Key":"refresh_tokens","Value":[` + item + `]}]`,
		"no value":       `[{"Key":"accounts"},{"Key":"refresh_tokens","Value":[` + item + `]}]`,
		"a null value":   `[{"Key":"accounts","Value":null},{"Key":"refresh_tokens","Value":[null,` + item + `]}]`,
		"another list":   `[{"Key":"Accounts","Value":["marker"]},{"Key":"refresh_tokens","Value":[` + item + `]}]`,
		"other order":    `[{"Value":[` + item + `],"Later":1,"Key":"refresh_tokens"}]`,
		"twice the same": `[{"Key":"refresh_tokens","Value":[` + item + `,` + item + `]}]`,
	} {
		tokens := mustRead(t, []byte(text), legacy.MSALv2)
		if entries := tokens.Entries(); len(entries) != 1 || entries[0].Kind != "refresh" {
			t.Errorf("%s: %d entries", name, len(entries))
		}
		if !strings.Contains(unified(t, tokens), `"later":{"a":[1]}`) {
			t.Errorf("%s: a field of a later version is lost", name)
		}
	}
}

// All survives but what the format has no room for, and tokens that its readers would
// take for others.
func TestMSALRoundTrip(t *testing.T) {
	t.Parallel()
	const kept = `{"AccessToken":{"a":{"home_account_id":"u.t","environment":"e","client_id":"c","realm":"t","target":"read <&>","secret":"marker-1",` +
		`"cached_at":"1","expires_on":"4070908800","user_assertion_hash":"h","token_type":"bearer","later":[{}]}},` +
		`"RefreshToken":{"a":{"home_account_id":"u.t","environment":"e","client_id":"c","secret":"marker-2"},` +
		`"f":{"home_account_id":"u.t","environment":"e","client_id":"c","family_id":"1","secret":"marker-3"}},` +
		`"IdToken":{"a":{"home_account_id":"u.t","environment":"e","client_id":"c","realm":"t","secret":"marker-4"}},` +
		`"Account":{"a":{"home_account_id":"u.t","environment":"e","realm":"t","username":"ü\u0001\"\\"}}`
	tokens := mustRead(t, []byte(kept+`,"AppMetadata":{"a":{"client_id":"c","environment":"e","family_id":"1"}},"Later":{"a":1}}`), legacy.Unified)
	again := mustRead(t, mustWrite(t, tokens, legacy.MSALv2), legacy.MSALv2)
	wantSame(t, "what the format has room for", unified(t, again), compact(t, []byte(kept+`}`)))

	for name, field := range map[string]string{
		"pop":         `"token_type":"pop"`,
		"resource":    `"ext":{"resource":"r"}`,
		"MSAL Go":     `"ext_cache_key":"k"`,
		"MSAL Node":   `"requestedClaims":"{}"`,
		"MSAL Node 2": `"requestedClaimsHash":"h"`,
	} {
		more := strings.Replace(kept, `"RefreshToken":{`, `"RefreshToken":{"x":{"home_account_id":"u.t","environment":"e","client_id":"x","secret":"marker-5",`+field+`},`, 1)
		more = strings.Replace(more, `"AccessToken":{`, `"AccessToken":{"x":{"home_account_id":"u.t","environment":"e","client_id":"x","target":"read","secret":"marker-5",`+field+`},`, 1)
		b := mustWrite(t, mustRead(t, []byte(more+`}`), legacy.Unified), legacy.MSALv2)
		wantSame(t, name, unified(t, mustRead(t, b, legacy.MSALv2)), compact(t, []byte(kept+`}`)))
	}
}

// MSAL.NET reads the array with a serializer that knows only this form.
func TestMSALForm(t *testing.T) {
	t.Parallel()
	tokens := mustRead(t, readFile(t, "msal-v2.json"), legacy.MSALv2)
	var lists []struct {
		Key   string
		Value []string
	}
	if err := json.Unmarshal(mustWrite(t, tokens, legacy.MSALv2), &lists); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"access_tokens", "refresh_tokens", "id_tokens", "accounts"} {
		if lists[i].Key != name || len(lists[i].Value) != 1 {
			t.Fatalf("list %d is %q with %d items", i, lists[i].Key, len(lists[i].Value))
		}
		for field, value := range fieldsOf(t, lists[i].Value[0]) {
			if _, ok := value.(string); !ok {
				t.Errorf("%s: the field %s is no string", name, field)
			}
		}
	}
}

func fieldsOf(t *testing.T, text string) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatal("an item is no JSON")
	}
	return fields
}
