package tokencache

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func b64(k []byte) string { return base64.StdEncoding.EncodeToString(k) }

// The text of a key set as operators write it is read by every release.
func TestParseKeys(t *testing.T) {
	t.Parallel()
	n, k1, k2 := b64(testKey("names")), b64(testKey("1")), b64(testKey("2"))
	for what, tt := range map[string]struct {
		text    string
		ids     string
		revoked string
	}{
		"one line":         {`{"names":"` + n + `","seal":["` + k1 + `"]}`, "0f9223c0", "[]"},
		"two keys":         {`{"names":"` + n + `","seal":["` + k2 + `","` + k1 + `"]}`, "a2638bbf 0f9223c0", "[]"},
		"revoked":          {`{"names":"` + n + `","seal":["` + k2 + `"],"revoked":["0f9223c0","00000000"]}`, "a2638bbf", "[0f9223c0 00000000]"},
		"none revoked":     {`{"names":"` + n + `","seal":["` + k2 + `"],"revoked":[]}`, "a2638bbf", "[]"},
		"another order":    {`{"revoked":["0f9223c0"],"seal":["` + k2 + `"],"names":"` + n + `"}`, "a2638bbf", "[0f9223c0]"},
		"many lines":       {"\n{\n\t\"names\": \"" + n + "\",\r\n  \"seal\": [\n\"" + k1 + "\" ,\n \"" + k2 + "\"\n]\n}\n", "0f9223c0 a2638bbf", "[]"},
		"escaped":          {`{"n\u0061mes":"` + strings.ReplaceAll(n, "/", `\/`) + `","seal":["` + k1 + `"]}`, "0f9223c0", "[]"},
		"as long as it is": {`{"names":"` + n + `","seal":["` + k1 + `"]` + strings.Repeat(" ", 64<<10-len(n)-len(k1)-len(`{"names":"","seal":[""]}`)) + "}", "0f9223c0", "[]"},
	} {
		keys, err := parseKeys([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		ring := keys.Seal.(*KeyRing)
		if got := strings.Join(ring.IDs(), " "); got != tt.ids || !bytes.Equal(keys.Names, testKey("names")) {
			t.Errorf("%s: got the keys %s, want %s, or another name key", what, got, tt.ids)
		}
		if got := fmt.Sprintf("%x", ring.revoked); got != tt.revoked {
			t.Errorf("%s: revoked %s, want %s", what, got, tt.revoked)
		}
	}
}

func TestParseKeysRefuses(t *testing.T) {
	t.Parallel()
	secrets := [][]byte{testKey("names"), testKey("1"), testKey("2")}
	n, k1, k2 := b64(secrets[0]), b64(secrets[1]), b64(secrets[2])
	set := func(names, seal, more string) string { return `{"names":` + names + `,"seal":` + seal + more + `}` }
	text := func(s string) string { return `"` + s + `"` }
	list := func(s ...string) string { b, _ := json.Marshal(s); return string(b) }
	good := set(text(n), list(k1, k2), "")
	for what, tt := range map[string]struct{ text, want string }{
		"empty":                {"", "not JSON at byte 0"},
		"cut":                  {good[:len(good)-1], "not JSON at byte"},
		"trailing text":        {good + "x", "not JSON at byte"},
		"two sets":             {good + good, "not JSON at byte"},
		"a comment":            {"# keys\n" + good, "not JSON at byte 1"},
		"a byte order mark":    {"\xef\xbb\xbf" + good, "not JSON at byte 1"},
		"quotes of a shell":    {"'" + good + "'", "not JSON at byte 1"},
		"only a key":           {n, "not JSON"},
		"a quoted key":         {text(n), "not a JSON object"},
		"null":                 {"null", "not a JSON object"},
		"an array":             {"[" + good + "]", "not a JSON object"},
		"nothing in it":        {"{}", "needs names and seal"},
		"no names":             {`{"seal":` + list(k1) + `}`, "needs names and seal"},
		"no seal":              {`{"names":` + text(n) + `}`, "needs names and seal"},
		"an unknown member":    {set(text(n), list(k1), `,"extra":1`), "a member that is not"},
		"a key as a member":    {set(text(n), list(k1), `,"`+k2+`":1`), "a member that is not"},
		"another case":         {`{"Names":` + text(n) + `,"seal":` + list(k1) + `}`, "a member that is not"},
		"names twice":          {set(text(n), list(k1), `,"names":`+text(n)), "names is there twice"},
		"seal twice":           {set(text(n), list(k1), `,"seal":`+list(k2)), "seal is there twice"},
		"revoked twice":        {set(text(n), list(k1), `,"revoked":[],"revoked":["00000000"]`), "revoked is there twice"},
		"twice, escaped":       {set(text(n), list(k1), `,"se\u0061l":`+list(k2)), "seal is there twice"},
		"names null":           {set("null", list(k1), ""), "names: not a key"},
		"names an array":       {set(list(n), list(k1), ""), "names: not a key"},
		"names an object":      {set(`{"a":`+text(n)+`}`, list(k1), ""), "names: not a key"},
		"seal a string":        {set(text(n), text(k1), ""), "seal: it is not an array"},
		"seal null":            {set(text(n), "null", ""), "seal: it is not an array"},
		"seal empty":           {set(text(n), "[]", ""), "seal: a key ring needs a key"},
		"a null key":           {set(text(n), `[null]`, ""), "seal: number 1: not a key"},
		"a number":             {set(text(n), `[`+text(k1)+`,12345678]`, ""), "seal: number 2: not a key"},
		"revoked null":         {set(text(n), list(k1), `,"revoked":null`), "revoked: it is not an array"},
		"revoked a key":        {set(text(n), list(k1), `,"revoked":`+list(k2)), "revoked: number 1: not a key ID"},
		"revoked, upper case":  {set(text(n), list(k1), `,"revoked":["ABCDEF01"]`), "revoked: number 1: not a key ID"},
		"revoked, short":       {set(text(n), list(k1), `,"revoked":["00000000","abcdef"]`), "revoked: number 2: not a key ID"},
		"a revoked key":        {set(text(n), list(k1, k2), `,"revoked":["a2638bbf"]`), "seal: key 2, of the ID a2638bbf, is revoked"},
		"base64 without =":     {set(text(strings.TrimRight(n, "=")), list(k1), ""), "padded base64"},
		"base64 with a break":  {set(text(n[:20]+`\n`+n[20:]), list(k1), ""), "padded base64"},
		"base64 with spaces":   {set(text(" "+n), list(k1), ""), "padded base64"},
		"base64, stray bits":   {set(text(n[:42]+nextBase64(n[42])+"="), list(k1), ""), "padded base64"},
		"base64url":            {set(text(strings.Repeat("-_", 21)+"-="), list(k1), ""), "padded base64"},
		"hexadecimal":          {set(text(fmt.Sprintf("%x", secrets[0])), list(k1), ""), "names: a key has 32 bytes, this one 48"},
		"a short key":          {set(text(n), list(k1, b64(secrets[2][:31])), ""), "seal: number 2: a key has 32 bytes, this one 31"},
		"a pass phrase":        {set(text(b64([]byte("changemechangemechangemechangeme"))), list(k1), ""), "names: the key is text"},
		"the same key twice":   {set(text(n), list(k1, k2, k1), ""), "seal: key 3 is in the ring already"},
		"names seal too":       {set(text(k2), list(k1, k2), ""), "Keys.Names is a key of the ring too"},
		"deep":                 {set(text(n), strings.Repeat("[", 30000)+strings.Repeat("]", 30000), ""), "not JSON"},
		"deep, but JSON":       {set(text(n), strings.Repeat("[", 9000)+strings.Repeat("]", 9000), ""), "seal: number 1: not a key"},
		"too long":             {good + strings.Repeat(" ", 64<<10), "longer than 65536 bytes"},
		"\\u0000 in the names": {set(text(n+`\u0000`), list(k1), ""), "padded base64"},
	} {
		keys, err := parseKeys([]byte(tt.text))
		if err == nil || keys != nil || !strings.HasPrefix(err.Error(), "tokencache: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", what, err, tt.want)
			continue
		}
		for _, k := range secrets {
			showsNothing(t, what, err, k)
		}
	}
}

// nextBase64 changes a digit in its lowest bit, which is no part of the 32 bytes.
func nextBase64(c byte) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return digits[strings.IndexByte(digits, c)^1:][:1]
}

func TestNewKeyText(t *testing.T) {
	t.Parallel()
	text := NewKeyText()
	one, err := parseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(text), "\n"); got != 1 || !bytes.HasSuffix(text, []byte("\n")) {
		t.Errorf("the text has %d line ends: it fits no environment variable", got)
	}
	two, err := parseKeys(NewKeyText())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(one.Names, two.Names) || one.Seal.(*KeyRing).IDs()[0] == two.Seal.(*KeyRing).IDs()[0] {
		t.Error("two sets have the same key")
	}
}
