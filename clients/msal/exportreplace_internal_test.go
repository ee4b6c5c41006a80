package msal

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../../tokencache/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The keys are those that MSAL Go has given the items itself.
func TestKeysOfMSAL(t *testing.T) {
	t.Parallel()
	written, err := parseDocument(load(t, "sample-msal-go-cache.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range written {
		for key, it := range written.section(name) {
			if keyOf(name, it) != key {
				t.Errorf("%s: another key than MSAL's", name)
			}
		}
	}
	for name, test := range map[string]struct {
		section string
		item    item
		want    string
	}{
		"family":      {refreshTokens, item{"family_id": []byte(`"1"`), "client_id": []byte(`"C"`)}, "--refreshtoken-1"},
		"extra":       {accessTokens, item{"ext_cache_key": []byte(`"X"`), "target": []byte(`"a b"`)}, "--atext---a b-x"},
		"type":        {accessTokens, item{"token_type": []byte(`"pop"`), "target": []byte(`"a"`)}, "--accesstoken---a-pop"},
		"no type":     {accessTokens, item{"target": []byte(`"a"`)}, "--accesstoken---a"},
		"not a text":  {accounts, item{"home_account_id": []byte(`7`), "realm": []byte(`"R"`)}, "--r"},
		"no section":  {"Elsewhere", item{}, ""},
		"application": {appMetadata, item{"client_id": []byte(`"C"`), "environment": []byte(`"E"`)}, "appmetadata-e-c"},
	} {
		if got := keyOf(test.section, test.item); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// MSAL Node leaves out what MSAL Go needs to refresh; what it knows is not lost.
func TestTokensOfMSALNode(t *testing.T) {
	t.Parallel()
	text, err := forMSAL(load(t, "sample-msal-node-cache.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.section(appMetadata)) != 1 || len(d.section(refreshTokens)) != 1 {
		t.Errorf("%d items of AppMetadata, %d refresh tokens, want one each", len(d.section(appMetadata)), len(d.section(refreshTokens)))
	}
	for key, it := range d.section(refreshTokens) {
		if strings.HasSuffix(key, "-") || keyOf(refreshTokens, it) != key {
			t.Error("the refresh token has another key than MSAL Go would give it")
		}
	}
}

// Items that MSAL Go cannot tell apart are not lost.
func TestItemsWithOneKey(t *testing.T) {
	t.Parallel()
	text, err := forMSAL([]byte(`{"RefreshToken":{
		"a":{"secret":"marker-1"},"b":{"secret":"marker-2"},"--refreshtoken-":{"secret":"marker-3"},"--refreshtoken--":{"secret":"marker-4"}},
		"Account":7,"other":[1]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"marker-1", "marker-2", "marker-3", "marker-4", `"other":[1]`, `"Account":7`} {
		if !strings.Contains(string(text), want) {
			t.Error("something is lost")
		}
	}
	if _, err := forMSAL([]byte(`[]`)); err == nil {
		t.Error("no error for what is no object")
	}
}

// Of the access tokens MSAL Go gets those that it may serve to anybody who asks.
func TestBoundTokens(t *testing.T) {
	t.Parallel()
	text, err := forMSAL([]byte(`{"AccessToken":{
		"a":{"secret":"marker-1","ext":{"cae":"1"}},"b":{"secret":"marker-2","ext":{"cae":"1","claims":"h"}},
		"c":{"secret":"marker-3","ext":{"claims":"cae"}},"d":{"secret":"marker-4","ext":"cae"},
		"e":{"secret":"marker-5","ext":{"resource":"https://api.test"}},"f":{"secret":"marker-6","ext":{"claims":"h","resource":""}},
		"g":{"secret":"marker-7","ext":{"claims":"resource"}}},"RefreshToken":{"h":{"secret":"marker-8"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, true, true, false, false, true, true} {
		if got := strings.Contains(string(text), "marker-"+strconv.Itoa(i+1)); got != want {
			t.Errorf("item %d is there: %v, want %v", i+1, got, want)
		}
	}
	text, err = forMSAL([]byte(`{"AccessToken":{"a":{"secret":"marker-1","ext":{"cae":"1"}}}}`))
	if err != nil || strings.Contains(string(text), "marker-1") {
		t.Errorf("the only one: %v, or it is there", err)
	}
}

// A change is dated, so that it counts as newer than what the cache has dated; the rest is
// as old as it was.
func TestChanged(t *testing.T) {
	t.Parallel()
	g := &given{text: []byte(`{"RefreshToken":{"r":{"secret":"old","client_id":"c"}},"IdToken":{"i":{"secret":"id","client_id":"c"}}}`)}
	tokens, err := g.changed([]byte(`{"RefreshToken":{"r":{"secret":"new","client_id":"c"}},"IdToken":{"i":{"secret":"id","client_id":"c"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := tokens.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	dated := func(name string) (n int) {
		for _, it := range d.section(name) {
			if it.text("last_modification_time") != "" {
				n++
			}
		}
		return n
	}
	if dated(refreshTokens) != 1 || dated(idTokens) != 0 {
		t.Errorf("%d refresh tokens and %d ID tokens are dated, want 1 and 0", dated(refreshTokens), dated(idTokens))
	}
	for _, bad := range []string{"", "[", "[]", `{"RefreshToken":7}`, strings.Repeat(" ", tokencache.MaxTokensSize) + "{}"} {
		if tokens, err := g.changed([]byte(bad)); err == nil && bad != "" && len(tokens.Entries()) > 0 {
			t.Errorf("%.20q: no error", bad)
		}
	}
}

// The memory of a long-lived ExportReplace with a client for each call is bounded, and
// not used when it is old.
func TestMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m memory
		first := new(int)
		m.put(first, &given{at: time.Now()})
		for range 10 * memorySize {
			time.Sleep(time.Millisecond)
			m.put(new(int), &given{at: time.Now()})
		}
		if len(m.all) != memorySize || m.get(first, tokencache.Key{}) != nil {
			t.Errorf("%d clients are remembered, the first among them: %v", len(m.all), m.get(first, tokencache.Key{}) != nil)
		}
		last := new(int)
		m.put(last, &given{at: time.Now()})
		time.Sleep(memoryAge - time.Millisecond)
		if m.get(last, tokencache.Key{}) == nil {
			t.Error("forgotten too early")
		}
		time.Sleep(time.Millisecond)
		if m.get(last, tokencache.Key{}) != nil {
			t.Error("remembered for too long")
		}
		m.put(first, &given{at: time.Now()})
		if len(m.all) != 1 {
			t.Errorf("%d clients are remembered, want the last", len(m.all))
		}
	})
}

// bound counts the access tokens that MSAL is not given.
func bound(text []byte) (n int) {
	var stored map[string]map[string]map[string]any
	_ = json.Unmarshal(text, &stored) // what is of another form is not one of them
	for _, it := range stored[accessTokens] {
		if ext, ok := it["ext"].(map[string]any); ok && (ext["cae"] != nil || ext["resource"] != nil) {
			n++
		}
	}
	return n
}

// FuzzForMSAL checks that no other token is lost on the way to MSAL, whatever is stored.
func FuzzForMSAL(f *testing.F) {
	for _, name := range []string{"sample-msal-go-cache.json", "sample-msal-node-cache.json"} {
		f.Add(load(f, name))
	}
	f.Add([]byte(`{"AccessToken":{"a":{"secret":"s","target":"x","ext":{"cae":"1"}},"b":{"secret":"s","ext":{"resource":"r"}},"c":{"secret":"s"}}}`))
	f.Add([]byte(`{"AccessToken":{"a":{"secret":"s","target":"x"},"b":{"secret":"s","target":"X y"}},"x":{"y":1e3}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var stored tokencache.Tokens
		if stored.UnmarshalJSON(text) != nil {
			return
		}
		own, err := stored.MarshalJSON()
		if err != nil {
			return
		}
		given, err := forMSAL(own)
		if err != nil {
			t.Fatal("what the cache has written is refused")
		}
		if !json.Valid(given) {
			t.Fatal("MSAL is given what is not JSON")
		}
		var back tokencache.Tokens
		if len(given) > tokencache.MaxTokensSize {
			return
		}
		if err := back.UnmarshalJSON(given); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(len(stored.Entries())-bound(own), len(back.Entries())); diff != "" {
			t.Error("tokens are lost on the way: " + diff)
		}
	})
}
