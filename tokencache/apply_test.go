package tokencache

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// signedIn is a document after a sign-in at testNow, with refresh token R0.
func signedIn(t testing.TB) *document {
	t.Helper()
	d := &document{}
	mustApply(t, d, signInChange("A0", "R0"), testWriter(), testNow)
	return d
}

func signInChange(access, refresh Secret) change {
	return change{signIn: true, grant: Grant{
		AccessToken: access, Scopes: []string{"read"}, Expires: testNow.Add(time.Hour), RefreshToken: refresh, IDToken: "I0",
		Account: Account{ID: testAccount, LocalID: "local", Tenant: "utid", Username: "user", Name: "Name"},
	}}
}

func refreshChange(access, used, next Secret, scopes ...string) change {
	return change{req: Request{Scopes: scopes}, used: used, grant: Grant{
		AccessToken: access, Scopes: scopes, Expires: testNow.Add(time.Hour), RefreshToken: next,
	}}
}

func secretsOf(d *document, s section) string {
	var list []string
	for _, it := range d.sections[s] {
		list = append(list, it.text(fieldSecret))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestApplySignIn(t *testing.T) {
	t.Parallel()
	c := signInChange("A0", "R0")
	c.req = Request{Resource: "https://r", Claims: "{}"}
	c.grant.TokenType, c.grant.ClientInfo, c.grant.RefreshOn = "bearer", "info", testNow.Add(time.Minute)
	d := &document{}
	mustApply(t, d, c, testWriter(), testNow.Add(999*time.Millisecond))
	now, hour := unixText(testNow), unixText(testNow.Add(time.Hour))
	own := func(more map[string]any) []map[string]any {
		it := map[string]any{
			"home_account_id": testAccount, "environment": testEnv, "client_id": testClient, "client_info": "info", "last_modification_time": now,
		}
		for k, v := range more {
			it[k] = v
		}
		return []map[string]any{it}
	}
	want := map[string][]map[string]any{
		"AccessToken": own(map[string]any{
			"credential_type": "ATExt", "secret": "A0", "realm": "utid", "target": "read", "cached_at": now, "expires_on": hour,
			"extended_expires_on": hour, "refresh_on": unixText(testNow.Add(time.Minute)),
			"ext": map[string]any{"resource": "https://r", "claims": claimsHash("{}")},
		}),
		"RefreshToken": own(map[string]any{"credential_type": "RefreshToken", "secret": "R0"}),
		"IdToken":      own(map[string]any{"credential_type": "IdToken", "secret": "I0", "realm": "utid"}),
		"Account": {{
			"home_account_id": testAccount, "environment": testEnv, "realm": "utid", "local_account_id": "local", "username": "user",
			"name": "Name", "client_info": "info", "authority_type": "MSSTS", "last_modification_time": now,
		}},
		"AppMetadata": {{"client_id": testClient, "environment": testEnv, "last_modification_time": now}},
	}
	wantSame(t, "document", sectionsOf(t, encoded(d)), want)
}

func TestApplyAccessTokenFields(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(*change)
		want map[string]string
	}{
		{"no expiry", func(c *change) { c.grant.Expires = time.Time{} }, map[string]string{"expires_on": unixText(testNow.Add(5 * time.Minute))}},
		{"scopes not told", func(c *change) { c.grant.Scopes, c.req.Scopes = nil, []string{"B", "a"} }, map[string]string{"target": "B a"}},
		{"no scopes granted", func(c *change) { c.grant.Scopes, c.req.Scopes = []string{}, []string{"a"} }, map[string]string{"target": ""}},
		{"order granted", func(c *change) { c.grant.Scopes = []string{"z", "A"} }, map[string]string{"target": "z A"}},
		{"another type", func(c *change) { c.grant.TokenType = "DPoP" }, map[string]string{"token_type": "DPoP"}},
		{"tenant asked for", func(c *change) { c.req.Tenant = "contoso.test" }, map[string]string{"realm": "contoso.test"}},
		{"home tenant", func(c *change) { c.grant.Account.Tenant = "elsewhere" }, map[string]string{"realm": "utid"}},
		{"no claims", func(*change) {}, map[string]string{"credential_type": "AccessToken", "ext": "", "token_type": "", "refresh_on": ""}},
	} {
		d := signedIn(t)
		c := refreshChange("A1", "R0", "", "new")
		tt.edit(&c)
		mustApply(t, d, c, testWriter(), testNow)
		i := slices.IndexFunc(d.sections[accessTokens], func(it *item) bool { return it.text(fieldSecret) == "A1" })
		for name, want := range tt.want {
			if got := d.sections[accessTokens][i].text(name); got != want {
				t.Errorf("%s: %s is %q, want %q", tt.name, name, got, want)
			}
		}
	}
}

// A token is found by the request that it was obtained for.
func TestApplyThenFind(t *testing.T) {
	t.Parallel()
	for _, req := range []Request{
		{},
		{Tenant: "contoso.test"},
		{Resource: "https://r"},
		{Claims: `{"a":1}`},
		{CAE: true},
		{Tenant: "t", Resource: "r", Claims: "c"},
		{Tenant: "t", Resource: "r", Claims: "c", CAE: true},
	} {
		for _, w := range []*writer{
			testWriter(),
			{clientID: testClient, environment: testEnv, account: testAccount, assertion: "h4sh"},
			{clientID: testClient, environment: testEnv},
		} {
			for _, tenant := range []string{"", "utid", "guest"} {
				req.Scopes = []string{"read", "Write"}
				c := change{req: req, grant: Grant{AccessToken: "A", Account: Account{Tenant: tenant}}}
				d := &document{}
				mustApply(t, d, c, w, testNow)
				q := query{Request: req, clientID: w.clientID, account: w.account, assertion: w.assertion}
				tok, fresh, err := mustSnapshot(t, d, testNow).find(&q, testNow)
				if tok.AccessToken != "A" || fresh != isFresh || err != nil {
					t.Errorf("%+v by %+v from tenant %q: %d, %v", req, *w, tenant, fresh, err)
				}
			}
		}
	}
}

func TestApplyRefreshToken(t *testing.T) {
	t.Parallel()
	family := refreshItem("F0", "cousin", testAccount, "family_id", "1", "future", "kept")
	member := sectionOf("AppMetadata", fields("client_id", testClient, "environment", testEnv, "family_id", "1"))
	alias := strings.Replace(refreshItem("R0", testClient, testAccount, "key_id", "dropped", "future", "kept"), testEnv, "alias.example", 1)
	for _, tt := range []struct {
		name   string
		stored []string
		c      change
		want   string
	}{
		{"rotated", []string{refreshItem("R0", testClient, testAccount)}, refreshChange("A", "R0", "R1"), "R1"},
		{"not rotated", []string{refreshItem("R0", testClient, testAccount)}, refreshChange("A", "R0", ""), "R0"},
		{"the same again", []string{refreshItem("R0", testClient, testAccount)}, refreshChange("A", "R0", "R0"), "R0"},
		{"another is stored by now", []string{refreshItem("R9", testClient, testAccount)}, refreshChange("A", "R0", "R1"), "R9"},
		{"none is stored by now", nil, refreshChange("A", "R0", "R1"), "R1"},
		{"another client's is stored", []string{refreshItem("R9", "other", testAccount)}, refreshChange("A", "R0", "R1"), "R1 R9"},
		{"another account's is stored", []string{refreshItem("R0", testClient, "other")}, refreshChange("A", "R0", "R1"), "R0 R1"},
		{"the family's", []string{family}, refreshChange("A", "F0", "F1"), "F1"},
		{"another of the family is stored by now", []string{family}, refreshChange("A", "F9", "F1"), "F0"},
		{"own beside the family's", []string{family, refreshItem("R0", testClient, testAccount)}, refreshChange("A", "R0", "R1"), "F0 R1"},
		{"under an alias of the environment", []string{alias}, refreshChange("A", "R0", "R1"), "R1"},
		{"no access token", []string{refreshItem("R0", testClient, testAccount)}, refreshChange("", "R0", "R1"), "R1"},
		{"sign-in", []string{refreshItem("R0", testClient, testAccount), family}, signInChange("A", "R5"), "F0 R5"},
		{"sign-in over an alias", []string{alias, refreshItem("R1", "other", testAccount)}, signInChange("A", "R5"), "R1 R5"},
		{"sign-in without one", []string{refreshItem("R0", testClient, testAccount)}, signInChange("A", ""), "R0"},
		{"given without any being spent", nil, refreshChange("A", "", "R1"), "R1"},
		{"nothing given, nothing spent", []string{refreshItem("R0", testClient, testAccount)}, refreshChange("A", "", ""), "R0"},
		{"an assertion's stays", []string{refreshItem("R0", testClient, testAccount, "user_assertion_hash", "h")}, signInChange("A", "R1"), "R0 R1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := mustParse(t, member)
			d.sections[refreshTokens] = mustParse(t, sectionOf("RefreshToken", tt.stored...)).sections[refreshTokens]
			tt.c.req.Scopes = []string{"read"}
			mustApply(t, d, tt.c, testWriter(), testNow)
			if got := secretsOf(d, refreshTokens); got != tt.want {
				t.Errorf("stored %q, want %q", got, tt.want)
			}
			if tt.c.grant.AccessToken == "" && secretsOf(d, accessTokens) != "" {
				t.Error("an access token appeared")
			}
			text := encoded(d)
			if strings.Contains(text, "dropped") && !strings.Contains(text, `"R0"`) {
				t.Errorf("a field that described the old token is still there: %s", text)
			}
			if slices.Contains(tt.stored, family) && !strings.Contains(text, `"future":"kept"`) {
				t.Errorf("an unknown field is gone: %s", text)
			}
		})
	}
}

func TestApplyRenewsInPlace(t *testing.T) {
	t.Parallel()
	d := mustParse(t, sectionOf("RefreshToken", strings.Replace(
		refreshItem("R0", testClient, testAccount, "family_id", "1", "key_id", "k", "expiresOn", "5", "future", "kept"), testEnv, "alias.example", 1)))
	c := refreshChange("", "R0", "R1")
	c.grant.ClientInfo = "info"
	mustApply(t, d, c, testWriter(), testNow)
	wantSame(t, "refresh tokens", sectionsOf(t, encoded(d))["RefreshToken"], []map[string]any{{
		"home_account_id": testAccount, "environment": "alias.example", "client_id": testClient, "credential_type": "RefreshToken",
		"secret": "R1", "family_id": "1", "future": "kept", "client_info": "info", "last_modification_time": unixText(testNow),
	}})
}

func TestApplyAccessTokenInPlace(t *testing.T) {
	t.Parallel()
	stored := accessItem("old", -time.Hour, time.Minute, "Write read", "refresh_on", "5", "ext_expires_on", "6", "kid", "k",
		"key_id", "k", "token_type", "Bearer", "client_info", "info", "future", "kept")
	for _, tt := range []struct {
		name    string
		cached  time.Duration
		refused Secret
		want    string
	}{
		{"older", 0, "", "new"},
		{"at the same time", -time.Hour, "", "new"},
		{"newer", -time.Hour - time.Second, "", "old"},
		{"newer by a clock that has stepped back, and refused", -time.Hour - time.Second, "old", "new"},
		{"newer, and another one refused", -time.Hour - time.Second, "other", "old"},
	} {
		d := mustParse(t, sectionOf("AccessToken", stored))
		c := refreshChange("new", "", "", "read", "write")
		c.req.Refused = tt.refused
		mustApply(t, d, c, testWriter(), testNow.Add(tt.cached))
		if got := secretsOf(d, accessTokens); got != tt.want {
			t.Errorf("stored is %s: left %q, want %q", tt.name, got, tt.want)
		}
		if tt.cached != 0 {
			continue
		}
		hour := unixText(testNow.Add(time.Hour))
		wantSame(t, "access tokens", sectionsOf(t, encoded(d))["AccessToken"], []map[string]any{{
			"home_account_id": testAccount, "environment": testEnv, "client_id": testClient, "credential_type": "AccessToken",
			"secret": "new", "realm": "utid", "target": "read write", "cached_at": unixText(testNow), "expires_on": hour,
			"extended_expires_on": hour, "last_modification_time": unixText(testNow), "client_info": "info", "future": "kept",
		}})
	}
}

func TestApplyAccount(t *testing.T) {
	t.Parallel()
	stored := `{"Account":{"k":{"home_account_id":"UID.utid","environment":"login.example","realm":"utid","username":"old",
		"authority_type":"MSSTS","given_name":"Given","tenantProfiles":["{\"a\":1}"]}}}`
	named := Account{ID: testAccount, Tenant: "utid", Username: "new", Name: "New"}
	for _, tt := range []struct {
		name     string
		stored   string
		signIn   bool
		account  Account
		tenant   string
		accounts int
		username string
		profiles bool
	}{
		{"sign-in", "", true, named, "", 1, "new", false},
		{"sign-in again", stored, true, named, "", 1, "new", true},
		{"sign-in to another tenant", stored, true, Account{ID: testAccount, Tenant: "guest", Username: "guest"}, "", 2, "old", true},
		{"refresh with ID token", stored, false, named, "", 1, "new", true},
		{"refresh without", stored, false, Account{}, "", 1, "old", true},
		{"refresh without a name", stored, false, Account{ID: testAccount, Tenant: "utid"}, "", 1, "old", true},
		{"refresh for another tenant", stored, false, Account{ID: testAccount, Tenant: "guest", Username: "new"}, "guest", 1, "old", true},
		{"first on behalf of", "", false, named, "", 1, "new", false},
		{"first on behalf of, another tenant", "", false, named, "guest", 0, "", false},
	} {
		d := mustParse(t, tt.stored)
		c := change{signIn: tt.signIn, req: Request{Tenant: tt.tenant}, grant: Grant{AccessToken: "A", Account: tt.account}}
		mustApply(t, d, c, testWriter(), testNow)
		list := d.sections[accounts]
		if len(list) != tt.accounts {
			t.Errorf("%s: %d accounts, want %d", tt.name, len(list), tt.accounts)
			continue
		}
		if len(list) == 0 {
			continue
		}
		it := list[0]
		if it.text(fieldUsername) != tt.username || (it.raw("tenantProfiles") != nil) != tt.profiles || (it.text("given_name") != "") != tt.profiles {
			t.Errorf("%s: got %s", tt.name, encoded(d))
		}
	}
}

func TestApplyApplicationToken(t *testing.T) {
	t.Parallel()
	d := &document{}
	w := &writer{clientID: testClient, environment: testEnv}
	mustApply(t, d, change{req: Request{Scopes: []string{"api/.default"}}, grant: Grant{AccessToken: "A", IDToken: "never"}}, w, testNow)
	for s, want := range map[section]int{accessTokens: 1, refreshTokens: 0, idTokens: 0, accounts: 0, appMetadata: 1} {
		if got := len(d.sections[s]); got != want {
			t.Errorf("%s: %d items, want %d", s.name(), got, want)
		}
	}
	if d.sections[accessTokens][0].raw(fieldHomeAccount) != nil {
		t.Error("the application's token has an account")
	}
}

func TestApplyRefusesAnotherAccount(t *testing.T) {
	t.Parallel()
	d := signedIn(t)
	before := encoded(d)
	for _, account := range []string{testAccount, ""} {
		c := signInChange("A1", "R1")
		c.grant.Account.ID = "other.utid"
		w := testWriter()
		w.account = account
		if err := d.apply(&c, w, testNow); !errors.Is(err, errOtherAccount) || encoded(d) != before {
			t.Errorf("writer for %q: %v", account, err)
		}
	}
}

func TestDropAccessTokens(t *testing.T) {
	t.Parallel()
	d := signedIn(t)
	mustApply(t, d, refreshChange("A1", "R0", "", "write"), testWriter(), testNow)
	for _, w := range []*writer{
		{clientID: "other", environment: testEnv, account: testAccount},
		{clientID: testClient, environment: testEnv},
	} {
		mustApply(t, d, refreshChange(Secret("X"+w.account), "", "", "read"), w, testNow)
	}
	d.dropAccessTokens(&writer{clientID: testClient, account: "UID.UTID"})
	if got := secretsOf(d, accessTokens); got != "X Xuid.utid" {
		t.Errorf("left %q", got)
	}
	if secretsOf(d, refreshTokens) != "R0" || secretsOf(d, idTokens) != "I0" {
		t.Error("more than access tokens was dropped")
	}
}

// drawChange draws a change by a writer who has read refresh token R0.
func drawChange(t *rapid.T, label string) change {
	scopes := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "openid"}), 1, 3, rapid.ID).Draw(t, label+" scopes")
	c := change{
		signIn: rapid.Bool().Draw(t, label+" signIn"),
		req: Request{
			Scopes: scopes, Tenant: rapid.SampledFrom([]string{"", "utid", "guest"}).Draw(t, label+" tenant"),
			Resource: rapid.SampledFrom([]string{"", "r"}).Draw(t, label+" resource"), Claims: rapid.SampledFrom([]string{"", "{}"}).Draw(t, label+" claims"),
		},
		grant: Grant{
			AccessToken:  Secret(rapid.SampledFrom([]string{"", label}).Draw(t, label+" access")),
			RefreshToken: Secret(rapid.SampledFrom([]string{"", "R-" + label}).Draw(t, label+" refresh")),
			IDToken:      Secret(rapid.SampledFrom([]string{"", "I-" + label}).Draw(t, label+" id")),
			Account:      Account{Tenant: rapid.SampledFrom([]string{"", "utid", "guest"}).Draw(t, label+" realm")},
		},
	}
	if !c.signIn {
		c.used = Secret(rapid.SampledFrom([]string{"", "R0"}).Draw(t, label+" used"))
	}
	if rapid.Bool().Draw(t, label+" named") {
		c.grant.Account.ID, c.grant.Account.Username = testAccount, label
	}
	return c
}

func TestApplyTwiceIsOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		d := signedIn(t)
		if rapid.Bool().Draw(r, "empty") {
			d = &document{}
		}
		c := drawChange(r, "X")
		mustApply(t, d, c, testWriter(), testNow)
		once := encoded(d)
		mustApply(t, d, c, testWriter(), testNow)
		if twice := encoded(d); twice != once {
			r.Fatalf("once:  %s\ntwice: %s", once, twice)
		}
		if again := encoded(mustParse(t, once)); again != once {
			r.Fatalf("read again: %s", again)
		}
	})
}

// Two machines refresh different scopes from the same state. Whoever is second
// applies its change to what the first left: both access tokens are there, and
// one refresh token, which is newer than the one both started from.
func TestApplyInEitherOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		x, y := drawChange(r, "X"), drawChange(r, "Y")
		for i, c := range []*change{&x, &y} {
			c.signIn, c.used, c.grant.AccessToken = false, "R0", Secret("XY"[i:i+1])
			c.req.Scopes = append(c.req.Scopes, fmt.Sprintf("only-%d", i))
		}
		for _, order := range [][2]change{{x, y}, {y, x}} {
			d := signedIn(t)
			first, second := order[0], order[1]
			mustApply(t, d, first, testWriter(), testNow)
			mustApply(t, d, second, testWriter(), testNow.Add(time.Second))
			if got := secretsOf(d, accessTokens); got != "A0 X Y" {
				r.Fatalf("access tokens %q", got)
			}
			want := first.grant.RefreshToken
			if want == "" {
				want = second.grant.RefreshToken
			}
			if want == "" {
				want = "R0"
			}
			if got := secretsOf(d, refreshTokens); got != string(want) {
				r.Fatalf("refresh token %q, want %q", got, string(want))
			}
		}
	})
}

// Nobody else's items are touched, whatever the change.
func TestApplyLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	others := `{"AccessToken":{"1":` + strings.Replace(accessItem("o1", 0, time.Hour, "a", "x", "y"), testClient, "other", 1) +
		`,"2":` + strings.Replace(accessItem("o2", 0, time.Hour, "a"), testAccount, "other", 1) + `},
		"RefreshToken":{"1":` + refreshItem("o1", "other", testAccount) + `,"2":` + refreshItem("o2", testClient, "other") + `},
		"IdToken":{"1":` + refreshItem("o1", "other", testAccount) + `,"2":` + refreshItem("o2", testClient, "other") + `},
		"Account":{"1":{"home_account_id":"other","environment":"login.example"}},
		"AppMetadata":{"1":{"client_id":"other","environment":"login.example"}},"Future":[ 1 ]}`
	rapid.Check(t, func(r *rapid.T) {
		d := mustParse(t, others)
		var before []string
		for s := range sectionCount {
			for _, it := range d.sections[s] {
				text, _ := it.append(nil)
				before = append(before, string(text))
			}
		}
		for i := range 3 {
			mustApply(t, d, drawChange(r, fmt.Sprint(i)), testWriter(), testNow)
		}
		text := encoded(d)
		for _, it := range append(before, `"Future":[ 1 ]`) {
			if !strings.Contains(text, it) {
				r.Fatalf("%s is gone from %s", it, text)
			}
		}
	})
}
