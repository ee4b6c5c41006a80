package tokencache

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestEncodePlainDropsExpired(t *testing.T) {
	t.Parallel()
	d := mustParse(t, sectionOf("AccessToken",
		accessItem("past", 0, -time.Second, "a"), accessItem("now", 0, 0, "b"), accessItem("later", 0, time.Second, "c"),
		fields("secret", "never said", "target", "d")))
	before := encoded(d)
	s := mustSnapshot(t, d, testNow)
	got, err := s.document()
	if err != nil || len(got.sections[accessTokens]) != 1 || got.sections[accessTokens][0].text(fieldSecret) != "later" {
		t.Errorf("left: %s, %v", encoded(got), err)
	}
	if encoded(d) != before {
		t.Error("the document was changed")
	}
}

func TestEncodePlainMeta(t *testing.T) {
	t.Parallel()
	for _, end := range []time.Time{{}, testNow, time.Unix(1<<60, 0)} {
		b, err := encodePlain(meta{generation: generation{7}, end: end}, &document{}, testNow)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parsePlain(b)
		if err != nil || s.generation != (generation{7}) || s.end.IsZero() != end.IsZero() {
			t.Errorf("end %v: got %+v, %v", end, s.meta, err)
		}
		if size := s.size(); size < len(b) || size > 3*len(b) {
			t.Errorf("size %d for %d bytes", size, len(b))
		}
	}
}

// A document that is too large loses its oldest access tokens, no more of them
// than must be, and nothing else.
func TestEncodePlainSheds(t *testing.T) {
	t.Parallel()
	const count, size = 130, 10 << 10
	var items []string
	for i := range count {
		age := time.Duration((i*37)%count) * time.Second // not in the order of their keys
		items = append(items, accessItem(fmt.Sprintf("%d-%s", (i*37)%count, strings.Repeat("x", size)), -age, time.Hour, fmt.Sprintf("scope-%d", i)))
	}
	rt := sectionOf("RefreshToken", refreshItem(strings.Repeat("r", 100_000), testClient, testAccount))
	d := mustParse(t, rt)
	for i := range items {
		it, err := parseItem("", []byte(items[i]))
		if err != nil {
			t.Fatal(err)
		}
		d.sections[accessTokens] = append(d.sections[accessTokens], it)
	}
	s := mustSnapshot(t, d, testNow)
	if len(s.plain) < MaxTokensSize-size-1000 {
		t.Errorf("%d bytes are left: one more token had fitted", len(s.plain))
	}
	got, err := s.document()
	if err != nil || len(got.sections[refreshTokens]) != 1 {
		t.Fatalf("the refresh token was shed: %v", err)
	}
	left := len(got.sections[accessTokens])
	for _, it := range got.sections[accessTokens] {
		var age int
		if _, err := fmt.Sscanf(it.text(fieldSecret), "%d-", &age); err != nil || age >= left {
			t.Errorf("of %d tokens, the one of age %d was kept", left, age)
		}
	}
	if len(d.sections[accessTokens]) != count {
		t.Error("the document was changed")
	}
}

func TestEncodePlainTooLarge(t *testing.T) {
	t.Parallel()
	d := mustParse(t, sectionOf("AccessToken", accessItem(strings.Repeat("x", 100_000), 0, time.Hour, "a")))
	for i := range 3 {
		it, err := parseItem("", []byte(refreshItem(strings.Repeat("r", 400_000), fmt.Sprint(i), testAccount)))
		if err != nil {
			t.Fatal(err)
		}
		d.sections[refreshTokens] = append(d.sections[refreshTokens], it)
	}
	if _, err := encodePlain(meta{}, d, testNow); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got the error %v", err)
	}
}

func TestHomeRealm(t *testing.T) {
	t.Parallel()
	acc := func(realm string) string {
		return fields("home_account_id", "UID.utid", "environment", testEnv, "realm", realm)
	}
	at := func(realm string) string {
		return fields("home_account_id", testAccount, "environment", testEnv, "realm", realm, "secret", "s", "target", realm)
	}
	for _, tt := range []struct {
		name, account, access, want string
	}{
		{"nothing", "", "", "utid"},
		{"the account's", `"1":` + acc("guest"), `"1":` + at("other"), "guest"},
		{"the one at home", `"1":` + acc("guest") + `,"2":` + acc("utid"), "", "utid"},
		{"the first", `"1":` + acc("two") + `,"2":` + acc("one"), "", "one"},
		{"no tenants", `"1":` + acc(""), `"1":` + at("other"), ""},
		{"another account's", strings.Replace(`"1":`+acc("guest"), "UID", "other", 1), "", "utid"},
		{"that of all tokens", "", `"1":` + at("guest"), "guest"},
		{"that of a token without", "", `"1":` + at("guest") + `,"2":` + at(""), ""},
		{"of several tokens", "", `"1":` + at("guest") + `,"2":` + at("two"), "utid"},
	} {
		d := mustParse(t, `{"Account":{`+tt.account+`},"AccessToken":{`+tt.access+`}}`)
		if got := homeOf(testAccount, d.realms(accounts)[testAccount], d.realms(accessTokens)[testAccount]); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := homeOf("sub-without-tenant", nil, nil); got != "" {
		t.Errorf("an account ID without tenant: %q", got)
	}
}

// A partition may hold several accounts; each is at home somewhere else.
func TestHomeIsPerAccount(t *testing.T) {
	t.Parallel()
	var items []string
	for _, account := range []string{"a.one", "b.two"} {
		for _, realm := range []string{"one", "two"} {
			items = append(items, fields("home_account_id", account, "client_id", testClient, "realm", realm, "target", "read",
				"secret", account+"@"+realm, "expires_on", unixText(testNow.Add(time.Hour))))
		}
	}
	s := mustSnapshot(t, mustParse(t, sectionOf("AccessToken", items...)), testNow)
	for account, want := range map[string]string{"a.one": "a.one@one", "b.two": "b.two@two"} {
		q := query{clientID: testClient, account: account}
		if tok, _, err := s.find(&q, testNow); err != nil || string(tok.AccessToken) != want {
			t.Errorf("%s: found %q, %v", account, string(tok.AccessToken), err)
		}
	}
}

// document gives each caller a copy of its own.
func TestSnapshotDocumentIsACopy(t *testing.T) {
	t.Parallel()
	s := mustSnapshot(t, goldenDocument(t), testNow)
	before := string(s.plain)
	for range 2 {
		d, err := s.document()
		if err != nil {
			t.Fatal(err)
		}
		d.dropAccessTokens(testWriter())
		mustApply(t, d, change{signIn: true, grant: Grant{AccessToken: "other", RefreshToken: "other"}}, testWriter(), testNow)
		if rt, _, _ := s.refreshToken(testClient, testAccount); rt != "refresh" || string(s.plain) != before {
			t.Fatal("the snapshot was changed")
		}
	}
}
