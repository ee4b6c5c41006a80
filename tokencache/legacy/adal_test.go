package legacy_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/legacy"
)

// adalFile writes a file of keys and values, as ADAL does.
func adalFile(texts ...string) []byte {
	b := []byte{3, 0, 0, 0}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(texts)/2))
	for _, s := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

const (
	adalKey   = "https://login.windows.net/t/:::https://api.example:::client:::2"
	adalValue = `{"RefreshToken":"marker-1","Result":{"TenantId":"t","UserInfo":{"UniqueId":"u","DisplayableId":"marker@example"}}}`
)

func TestADALRefuses(t *testing.T) {
	t.Parallel()
	good := string(adalFile(adalKey, adalValue))
	count := func(n uint32) string { return good[:4] + string(binary.LittleEndian.AppendUint32(nil, n)) + good[8:] }
	length := func(bytes string) string { return good[:8] + bytes + good[9:] }
	key := func(s string) string { return string(adalFile(s, adalValue)) }
	value := func(s string) string { return string(adalFile(adalKey, s)) }
	for name, text := range map[string]string{
		"trailing bytes":        good + "marker",
		"one entry less":        count(0),
		"one entry more":        count(2),
		"many entries":          count(1 << 20),
		"most entries":          count(1<<31 - 1),
		"a negative count":      count(1<<32 - 1),
		"nothing, negatively":   good[:4] + "\xff\xff\xff\xff",
		"the lowest count":      count(1 << 31),
		"a length beyond":       length("\xff\x7f"),
		"a huge length":         length("\xff\xff\xff\xff\x07"),
		"the largest length":    length("\xff\xff\xff\xff\x7f"),
		"a length of six bytes": length("\xff\xff\xff\xff\xff\x01"),
		"a right length of six": length(padded(len(adalKey), 6)),
		"a length without end":  good[:8] + strings.Repeat("\x80", 64),
		"a shorter length":      length("\x02"),
		"a key not in UTF-8":    key("https://login.windows.net/t/:::marker\xff:::client:::2"),
		"a value not in UTF-8":  value("{\"marker\":\"\xff\"}"),
		"an empty key":          key(""),
		"three parts":           key("https://login.windows.net/t/:::marker:::2"),
		"five parts":            key("https://login.windows.net/t/:::marker:::a:::b:::2"),
		"no subject type":       key("https://login.windows.net/t/:::marker:::client:::"),
		"a subject type":        key("https://login.windows.net/t/:::marker:::client:::marker"),
		"subject type 3":        key("https://login.windows.net/t/:::marker:::client:::3"),
		"no host":               key("marker:::a:::client:::0"),
		"a bad URL":             key("https://marker%zz/t/:::a:::client:::0"),
		"an empty value":        value(""),
		"no JSON":               value("marker"),
		"JSON of another kind":  value(`["marker"]`),
		"null":                  value("null"),
		"a text more":           value(adalValue + "marker"),
		"two refresh tokens":    value(`{"RefreshToken":"marker-1","RefreshToken":"marker-2"}`),
		"a number for a token":  value(`{"RefreshToken":123}`),
		"a Result of text":      value(`{"Result":"marker"}`),
		"a UserInfo of text":    value(`{"Result":{"UserInfo":"marker"}}`),
		"a user of numbers":     value(`{"Result":{"UserInfo":{"UniqueId":1}}}`),
		"two users":             value(`{"Result":{"UserInfo":{"UniqueId":"marker","UniqueId":"marker"}}}`),
		"deep":                  value(`{"marker":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`),
		"very deep":             value(strings.Repeat("[", 100_000)),
	} {
		refuses(t, name, []byte(text))
	}
}

// padded is a length in more bytes than it needs.
func padded(n, size int) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(n) | 0x80
		n >>= 7
	}
	b[size-1] &= 0x7f
	return string(b)
}

// .NET reads a length in up to five bytes, however many it needs.
func TestADALPaddedLength(t *testing.T) {
	t.Parallel()
	good := string(adalFile(adalKey, adalValue))
	tokens := mustRead(t, []byte(good[:8]+padded(len(adalKey), 5)+good[9:]), legacy.ADALv3)
	if len(tokens.Entries()) != 1 {
		t.Errorf("%d entries", len(tokens.Entries()))
	}
}

func TestADALTruncated(t *testing.T) {
	t.Parallel()
	b := readLayout(t, "adal-v3.txt")
	for n := 1; n < len(b); n++ {
		var tokens tokencache.Tokens
		_, err := legacy.Read(&tokens, b[:n])
		wantUnreadable(t, fmt.Sprintf("%d bytes", n), err)
		if len(tokens.Entries()) != 0 {
			t.Errorf("%d bytes: the tokens were changed", n)
		}
	}
}

// found is what a test looks at of the tokens that were read.
type found struct {
	token, home, env, client, hash string
	subject                        string // of the client
	realm, local, username, kind   string // of the account
}

func look(t *testing.T, tokens *tokencache.Tokens) (list []found) {
	t.Helper()
	var d struct{ RefreshToken, Account, AppMetadata map[string]map[string]string }
	if err := json.Unmarshal([]byte(unified(t, tokens)), &d); err != nil {
		t.Fatal("the document has another form")
	}
	for _, it := range d.RefreshToken {
		f := found{token: it["secret"], home: it["home_account_id"], env: it["environment"], client: it["client_id"], hash: it["user_assertion_hash"]}
		for _, a := range d.Account {
			if a["home_account_id"] == f.home && a["environment"] == f.env {
				f.realm, f.local, f.username, f.kind = a["realm"], a["local_account_id"], a["username"], a["authority_type"]
			}
		}
		for _, a := range d.AppMetadata {
			if a["client_id"] == f.client && a["environment"] == f.env {
				f.subject = a["adal_subject_type"]
			}
		}
		list = append(list, f)
	}
	return list
}

func TestADALEntry(t *testing.T) {
	t.Parallel()
	const hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	for name, tt := range map[string]struct {
		key, value string
		want       found
	}{
		"ADAL 3": {
			adalKey, `{"RefreshToken":"marker-1","RawClientInfo":null,"Result":{"TenantId":"t","UserInfo":{"UniqueId":"u","DisplayableId":"n"}}}`,
			found{"marker-1", "u.t", "login.windows.net", "client", "", "2", "t", "u", "n", "MSSTS"},
		},
		"client info of a guest": {
			adalKey, `{"RefreshToken":"marker-1","RawClientInfo":"eyJ1aWQiOiJnIiwidXRpZCI6Imhvc3QifQ==","Result":{"TenantId":"t","UserInfo":{"UniqueId":"u"}}}`,
			found{"marker-1", "g.host", "login.windows.net", "client", "", "2", "t", "u", "", "MSSTS"},
		},
		"the directory is in the authority": {
			"https://LOGIN.windows.net:::a:::client:::0", `{"RefreshToken":"marker-1","Result":{"UserInfo":{"UniqueId":"u"}}}`,
			found{"marker-1", "u", "login.windows.net", "client", "", "0", "", "u", "", "MSSTS"},
		},
		"no directory": {
			"https://login.windows.net/common:::a:::client:::0", `{"RefreshToken":"marker-1","Result":{"UserInfo":{"UniqueId":"u"}}}`,
			found{"marker-1", "u", "login.windows.net", "client", "", "0", "", "u", "", "MSSTS"},
		},
		"no directory, client info": {
			"https://login.windows.net/Organizations/:::a:::client:::0", `{"RefreshToken":"marker-1","RawClientInfo":"eyJ1aWQiOiJnIiwidXRpZCI6Imhvc3QifQ"}`,
			found{"marker-1", "g.host", "login.windows.net", "client", "", "0", "host", "", "", "MSSTS"},
		},
		"client info that says nothing": {
			adalKey, `{"RefreshToken":"marker-1","RawClientInfo":"e30","Result":{"UserInfo":{"UniqueId":"u"}}}`,
			found{"marker-1", "u.t", "login.windows.net", "client", "", "2", "t", "u", "", "MSSTS"},
		},
		"client info that is none": {
			adalKey, `{"RefreshToken":"marker-1","RawClientInfo":"!","Result":{"UserInfo":{"UniqueId":"u"}}}`,
			found{"marker-1", "u.t", "login.windows.net", "client", "", "2", "t", "u", "", "MSSTS"},
		},
		"AD FS with a port": {
			"https://host:8443/ADFS/:::a:::client:::0", `{"RefreshToken":"marker-1","Result":{"UserInfo":{"UniqueId":"u.v"}}}`,
			found{"marker-1", "u.v", "host:8443", "client", "", "0", "", "u.v", "", "ADFS"},
		},
		"on behalf of": {
			adalKey, `{"RefreshToken":"marker-1","UserAssertionHash":"` + hash + `","Result":{"UserInfo":{"UniqueId":"u"}}}`,
			found{"marker-1", "u.t", "login.windows.net", "client", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", "2", "t", "u", "", "MSSTS"},
		},
	} {
		list := look(t, mustRead(t, adalFile(tt.key, tt.value), legacy.ADALv3))
		if len(list) != 1 || list[0] != tt.want {
			t.Errorf("%s: another entry was read, or %d", name, len(list))
		}
	}
}

// What has no user is passed over, and so is a user without refresh token, but for
// the name.
func TestADALPassesOver(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		key, value string
		accounts   int
	}{
		"no user":             {adalKey, `{"RefreshToken":"marker-1"}`, 0},
		"no result":           {adalKey, `{"RefreshToken":"marker-1","Result":null}`, 0},
		"a name and no ID":    {adalKey, `{"RefreshToken":"marker-1","Result":{"UserInfo":{"DisplayableId":"marker@example"}}}`, 0},
		"a client":            {strings.TrimSuffix(adalKey, "2") + "1", adalValue, 0},
		"no refresh token":    {adalKey, strings.Replace(adalValue, `"marker-1"`, "null", 1), 1},
		"empty refresh token": {adalKey, strings.Replace(adalValue, `marker-1`, "", 1), 1},
	} {
		tokens := mustRead(t, adalFile(tt.key, tt.value), legacy.ADALv3)
		if len(tokens.Entries()) != 0 || len(tokens.Accounts()) != tt.accounts {
			t.Errorf("%s: %v, %d accounts", name, tokens, len(tokens.Accounts()))
		}
	}
}

// Of several refresh tokens of one user the newest is taken, wherever it stands.
func TestADALNewest(t *testing.T) {
	t.Parallel()
	entry := func(token, expires string) string {
		return `{"RefreshToken":"` + token + `","Result":{"ExpiresOn":` + expires + `,"TenantId":"t","UserInfo":{"UniqueId":"u"}}}`
	}
	date := func(ms string) string { return `{"DateTime":"/Date(` + ms + `)/","OffsetMinutes":120}` }
	const other = "https://login.microsoftonline.com/t/:::r:::client:::2"
	for name, tt := range map[string][]string{
		"by date":             {adalKey, entry("marker-new", date("1500000002000")), other, entry("marker-old", date("1500000001000"))},
		"by date, last":       {adalKey, entry("marker-old", date("1500000001000")), other, entry("marker-new", date("1500000002000"))},
		"with an offset":      {adalKey, entry("marker-new", date("1500000002000+0200")), other, entry("marker-old", date("1500000001000"))},
		"ISO":                 {adalKey, entry("marker-new", `"2030-01-01T00:00:00+00:00"`), other, entry("marker-old", date("1500000001000"))},
		"dated first":         {adalKey, entry("marker-new", date("1500000001000")), other, entry("marker-old", "null")},
		"no dates":            {adalKey, entry("marker-old", "null"), other, entry("marker-new", "null")},
		"the lowest date":     {adalKey, entry("marker-old", date("-62135596800000")), other, entry("marker-new", "null")},
		"dates that are none": {adalKey, entry("marker-old", `{"DateTime":"/Date(x)/"}`), other, entry("marker-new", `"tomorrow"`)},
		"more of none":        {adalKey, entry("marker-old", `{"DateTime":7}`), other, entry("marker-new", `[{}]`)},
		"a date of many":      {adalKey, entry("marker-new", date("99999999999999999999999")), other, entry("marker-old", date("1"))},
		"the same entry":      {adalKey, entry("marker-old", "null"), adalKey, entry("marker-new", "null")},
	} {
		list := look(t, mustRead(t, adalFile(tt...), legacy.ADALv3))
		if len(list) != 1 || list[0].token != "marker-new" {
			t.Errorf("%s: the older one of %d", name, len(list))
		}
	}
	apart := mustRead(t, adalFile(
		adalKey, entry("marker-1", "null"),
		strings.Replace(adalKey, "client", "Client", 1), entry("marker-2", "null"),
		adalKey, strings.Replace(entry("marker-3", "null"), `"u"`, `"v"`, 1),
	), legacy.ADALv3)
	if list := look(t, apart); len(list) != 3 {
		t.Errorf("%d refresh tokens, want one for each user and client", len(list))
	}
}

const adalUnified = `{"AccessToken":{
	"a":{"home_account_id":"u.t","environment":"login.example","client_id":"c","realm":"t","target":"old","secret":"marker-a","cached_at":"1"},
	"b":{"home_account_id":"u.t","environment":"login.example","client_id":"c","realm":"t","target":"read write","secret":"marker-b","cached_at":"2"},
	"c":{"home_account_id":"u.t","environment":"login.example","client_id":"c","realm":"t","target":"other","secret":"marker-c","cached_at":"3","ext":{"resource":"r"}},
	"d":{"home_account_id":"u.t","environment":"login.example","client_id":"d","realm":"t","target":"other","secret":"marker-d","cached_at":"4"}},
"RefreshToken":{"a":{"home_account_id":"u.t","environment":"login.example","client_id":"c","secret":"marker-1"MORE}},
"Account":{
	"g":{"home_account_id":"u.t","environment":"login.example","realm":"guests","local_account_id":"l","username":"guest"},
	"h":{"home_account_id":"u.t","environment":"login.example","realm":"t","local_account_id":"u","username":"n"},
	"o":{"home_account_id":"o.t","environment":"login.example","realm":"t","local_account_id":"o","username":"o"}}}`

func TestADALWrites(t *testing.T) {
	t.Parallel()
	const key, user = "https://login.example/t/:::read write:::c:::0", `{"Result":{"UserInfo":{"UniqueId":"u","DisplayableId":"n"}},`
	const info, rest = `"RawClientInfo":"eyJ1aWQiOiJ1IiwidXRpZCI6InQifQ",`, `"RefreshToken":"marker-1","ResourceInResponse":"read write"}`
	swap := func(before, after string) string {
		return strings.ReplaceAll(strings.Replace(adalUnified, "MORE", "", 1), before, after)
	}
	with := func(more string) string { return strings.Replace(adalUnified, "MORE", ","+more, 1) }
	for name, tt := range map[string]struct {
		document string
		want     []byte
	}{
		"a user":            {swap("", ""), adalFile(key, user+info+rest)},
		"its client info":   {with(`"client_info":"eyJ1dGlkIjoiVCIsInVpZCI6IlUifQ"`), adalFile(key, user+`"RawClientInfo":"eyJ1dGlkIjoiVCIsInVpZCI6IlUifQ",`+rest)},
		"another's info":    {with(`"client_info":"eyJ1dGlkIjoieCIsInVpZCI6IngifQ"`), adalFile(key, user+info+rest)},
		"no such scopes":    {swap(`"read write"`, `"urn:"`), adalFile("https://login.example/t/::::::c:::0", user+info+`"RefreshToken":"marker-1","ResourceInResponse":"urn:"}`)},
		"a family":          {with(`"family_id":"1"`), adalFile()},
		"on behalf of":      {with(`"user_assertion_hash":"h"`), adalFile()},
		"MSAL Node's":       {with(`"userAssertionHash":"h"`), adalFile()},
		"with a resource":   {with(`"ext":{"resource":"r"}`), adalFile()},
		"B2C":               {swap("login.example", "login.b2clogin.com"), adalFile()},
		"no host":           {swap(`"login.example"`, `""`), adalFile()},
		"a host that is no": {swap(`"login.example"`, `"a/b"`), adalFile()},
		"a user and a host": {swap(`"login.example"`, `"a@b"`), adalFile()},
		"no secret":         {swap("marker-1", ""), adalFile()},
		"no account":        {swap(`"u.t"`, `""`), adalFile()},
		"a client of parts": {swap(`"c"`, `"c:::2"`), adalFile()},
	} {
		got := mustWrite(t, mustRead(t, []byte(tt.document), legacy.Unified), legacy.ADALv3)
		if string(got) != string(tt.want) {
			t.Errorf("%s: another file was written, of %d bytes instead of %d", name, len(got), len(tt.want))
		}
	}
}

// ADAL fails at two entries of one key, and MSAL.NET at two refresh tokens of one user.
func TestADALWritesOneOfAUser(t *testing.T) {
	t.Parallel()
	tokens := mustRead(t, []byte(`{"RefreshToken":{
		"a":{"home_account_id":"u.t","environment":"login.windows.net","client_id":"c","secret":"marker-1"},
		"b":{"home_account_id":"U.t","environment":"login.microsoftonline.com","client_id":"c","secret":"marker-2","last_modification_time":"1"},
		"z":{"home_account_id":"u.t","environment":"login.z","client_id":"c","secret":"marker-4","last_modification_time":"2"},
		"c":{"home_account_id":"u.t","environment":"login.windows.net","client_id":"d","secret":"marker-3"},
		"d":{"home_account_id":"u.t","environment":"login.windows.net","client_id":"D","secret":"marker-5"}}}`), legacy.Unified)
	list := look(t, mustRead(t, mustWrite(t, tokens, legacy.ADALv3), legacy.ADALv3))
	if len(list) != 2 {
		t.Errorf("%d refresh tokens of two clients", len(list))
	}
	for _, f := range list {
		if f.home != "u.t" || f.realm != "t" || f.local != "u" || f.client == "c" && f.token != "marker-4" {
			t.Error("the user is another, or the token an older one")
		}
	}
}

// A web app of ADAL finds its tokens again: by subject type, user and directory.
func TestADALRoundTrip(t *testing.T) {
	t.Parallel()
	first := mustRead(t, readLayout(t, "adal-v3.txt"), legacy.ADALv3)
	again := mustRead(t, mustWrite(t, first, legacy.ADALv3), legacy.ADALv3)
	want := unified(t, first)
	for _, lost := range []string{`"family_name":"User",`, `"given_name":"A",`} { // as with MSAL.NET
		want = strings.Replace(want, lost, "", 1)
	}
	wantSame(t, "ADAL v3", unified(t, again), want)

	// Under another host, as after a sign-in, the client is still the same.
	moved := strings.Replace(unified(t, first), `"environment":"login.windows.net","home_account_id":"uid.utid","secret"`,
		`"environment":"login.microsoftonline.com","home_account_id":"uid.utid","secret"`, 1)
	list := look(t, mustRead(t, mustWrite(t, mustRead(t, []byte(moved), legacy.Unified), legacy.ADALv3), legacy.ADALv3))
	for _, f := range list {
		if f.home == "uid.utid" && (f.subject != "2" || f.env != "login.microsoftonline.com" || f.local != "uid" || f.realm != "utid") {
			t.Error("an entry was written that a web app does not find")
		}
	}
}
