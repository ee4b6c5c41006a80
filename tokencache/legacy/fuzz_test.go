package legacy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/legacy"
)

// readAny reads what may be anything. If it reads, it can be written in every format,
// and each of those reads again.
func readAny(t *testing.T, b []byte) {
	var tokens tokencache.Tokens
	f, err := legacy.Read(&tokens, b)
	if err != nil {
		if !errors.Is(err, tokencache.ErrTooLarge) && !errors.Is(err, tokencache.ErrUnreadable) {
			t.Fatal("an error of another kind")
		}
		if !blank(&tokens) {
			t.Fatalf("%v: an error, and tokens", f)
		}
		return
	}
	for _, f := range []legacy.Format{legacy.Unified, legacy.MSALv2, legacy.ADALv3} {
		once, err := legacy.Write(&tokens, f)
		if errors.Is(err, tokencache.ErrTooLarge) {
			continue
		}
		if err != nil {
			t.Fatalf("write %v: %v", f, err)
		}
		var again tokencache.Tokens
		if got, err := legacy.Read(&again, once); errors.Is(err, tokencache.ErrTooLarge) {
			continue
		} else if err != nil || got != f {
			t.Fatalf("what was written in %v reads as %v: %v", f, got, err)
		}
		twice := mustWrite(t, &again, f)
		if f == legacy.ADALv3 { // without the scopes, which are no longer known
			once, twice = twice, mustWrite(t, mustRead(t, twice, f), f)
		}
		if string(twice) != string(once) {
			t.Fatalf("%v changes when it is written again", f)
		}
	}
}

func blank(t *tokencache.Tokens) bool {
	b, err := t.MarshalJSON()
	return err == nil && string(b) == `{"AccessToken":{},"RefreshToken":{},"IdToken":{},"Account":{},"AppMetadata":{}}`
}

func FuzzRead(f *testing.F) {
	// Short ones, or minimizing takes all of the time.
	f.Add([]byte("\xEF\xBB\xBF \n"))
	f.Add([]byte(`[{"Key":"refresh_tokens","Value":["{\"home_account_id\":\"u.t\",\"secret\":\"s\"}"]}]`))
	f.Add([]byte(`{"RefreshToken":{"a":{"home_account_id":"u.t","environment":"e","secret":"s"}}}`))
	f.Add(adalFile("https://e/t/:::r:::c:::2", `{"RefreshToken":"r","Result":{"UserInfo":{"UniqueId":"u"}}}`))
	f.Fuzz(readAny)
}

func FuzzReadMSAL(f *testing.F) {
	for _, list := range []string{"access_tokens", "refresh_tokens", "id_tokens", "accounts"} {
		f.Add(list, `{"home_account_id":"u.t","environment":"e","client_id":"c","realm":"t","target":"b a","secret":"s","ext":{"a":"b"}}`)
	}
	f.Fuzz(func(t *testing.T, list, item string) {
		readAny(t, []byte(`[{"Key":`+quoted(list)+`,"Value":[`+quoted(item)+`]}]`))
	})
}

func FuzzReadADAL(f *testing.F) {
	f.Add(adalKey, adalValue, adalKey, adalValue)
	f.Add("https://login.windows.net/utid/:::https://graph.windows.net:::client:::2",
		`{"RawClientInfo":"eyJ1aWQiOiJ1aWQiLCJ1dGlkIjoidXRpZCJ9","RefreshToken":"r","ResourceInResponse":"g","UserAssertionHash":"h"}`,
		"https://a/adfs/:::::::::0", `{"RefreshToken":"r","Result":{"ExpiresOn":{"DateTime":"/Date(1)/"},"UserInfo":{"UniqueId":"u.v"}}}`)
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string) {
		readAny(t, adalFile(key1, value1, key2, value2))
	})
}

// FuzzRoundTrip writes tokens of any texts in each format, and reads them.
func FuzzRoundTrip(f *testing.F) {
	f.Add("uid", "utid", "login.windows.net", "client", "refresh", "name", "scope")
	f.Add("ü\"\\", "<&>", "host:1", "a b", "\x00", "\u2028", "a:::b")
	f.Fuzz(roundTrip)
}

// roundTrip checks that a user of Microsoft Entra ID survives each format.
func roundTrip(t *testing.T, uid, utid, host, client, secret, name, scope string) {
	for _, s := range []*string{&uid, &utid, &host, &client, &secret, &name, &scope} {
		*s = strings.ToValidUTF8(*s, "?")
	}
	uid = strings.ReplaceAll(uid, ".", "_")
	document := fmt.Sprintf(`{"RefreshToken":{"a":{"home_account_id":%s,"environment":%s,"client_id":%s,"secret":%s}},
		"Account":{"a":{"home_account_id":%[1]s,"environment":%[2]s,"realm":%[5]s,"local_account_id":%s,"username":%s,"authority_type":"MSSTS"}},
		"AccessToken":{"a":{"home_account_id":%[1]s,"environment":%[2]s,"client_id":%[3]s,"realm":%[5]s,"target":%[8]s,"secret":"s"}}}`,
		quoted(uid+"."+utid), quoted(host), quoted(client), quoted(secret), quoted(utid), quoted(uid), quoted(name), quoted(scope))
	if len(document) > 100_000 {
		return
	}
	tokens := mustRead(t, []byte(document), legacy.Unified)
	v2 := mustRead(t, mustWrite(t, tokens, legacy.MSALv2), legacy.MSALv2)
	if unified(t, v2) != unified(t, tokens) {
		t.Error("MSAL v2 changes the document")
	}
	adal := look(t, mustRead(t, mustWrite(t, tokens, legacy.ADALv3), legacy.ADALv3))
	if len(adal) == 0 {
		plain := !strings.ContainsFunc(uid+utid+host+client, func(r rune) bool {
			return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
		})
		if plain && uid != "" && utid != "" && host != "" && secret != "" {
			t.Error("ADAL v3 loses a user")
		}
		return
	}
	got, want := adal[0], found{
		token: secret, home: uid + "." + utid, env: strings.ToLower(host), client: client, subject: "0",
		realm: utid, local: uid, username: name, kind: "MSSTS",
	}
	if utid == "" || uid == "" || special(utid) {
		return // accounts of another kind
	}
	if len(adal) != 1 || got != want {
		t.Error("ADAL v3 changes the user")
	}
}

// special tells whether a directory has a name that means another.
func special(tenant string) bool {
	switch strings.ToLower(tenant) {
	case "common", "organizations", "consumers", "adfs":
		return true
	}
	return false
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		id := rapid.StringMatching(`[a-z0-9-]{1,12}`)
		roundTrip(t, id.Draw(r, "uid"), id.Draw(r, "utid"), id.Draw(r, "host"), rapid.String().Draw(r, "client"),
			rapid.String().Draw(r, "secret"), rapid.String().Draw(r, "name"), rapid.String().Draw(r, "scope"))
	})
}

// Many users and clients, each with a refresh token, come through each format in the
// same number.
func TestManyUsers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		users, clients := rapid.IntRange(0, 20).Draw(r, "users"), rapid.IntRange(1, 5).Draw(r, "clients")
		var texts []string
		for i := range users * clients {
			texts = append(texts, fmt.Sprintf("https://login.windows.net/t/:::r:::c%d:::2", i%clients),
				fmt.Sprintf(`{"RefreshToken":"marker-%d","Result":{"TenantId":"t","UserInfo":{"UniqueId":"u%d"}}}`, i, i/clients))
		}
		tokens := mustRead(t, adalFile(texts...), legacy.ADALv3)
		for _, f := range []legacy.Format{legacy.MSALv2, legacy.ADALv3, legacy.Unified} {
			tokens = mustRead(t, mustWrite(t, tokens, f), f)
			if len(tokens.Entries()) != users*clients || len(tokens.Accounts()) != users {
				t.Fatalf("%v: %v and %d accounts of %d users with %d clients", f, tokens, len(tokens.Accounts()), users, clients)
			}
		}
	})
}
