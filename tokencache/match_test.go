package tokencache

import (
	"slices"
	"strings"
	"testing"
	"time"
)

type matchCase struct {
	name  string
	items []string
	query func(*query)
	want  string // secret, "" for none
	stale bool
}

func readScope(q *query) { q.Scopes = []string{"read"} }

func checkMatches(t *testing.T, cases []matchCase) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := mustSnapshot(t, mustParse(t, sectionOf("AccessToken", tt.items...)), testNow)
			q := query{clientID: testClient, account: testAccount, margin: 5 * time.Minute}
			tt.query(&q)
			tok, fresh, err := s.find(&q, testNow)
			if err != nil {
				t.Fatal(err)
			}
			want := isFresh
			if tt.stale {
				want = isStale
			}
			if tt.want == "" {
				want = isNone
			}
			if string(tok.AccessToken) != tt.want || fresh != want {
				t.Errorf("found %q, freshness %d; want %q, freshness %d", string(tok.AccessToken), fresh, tt.want, want)
			}
		})
	}
}

func TestFindByScopes(t *testing.T) {
	t.Parallel()
	hour := time.Hour
	ask := func(scopes ...string) func(*query) { return func(q *query) { q.Scopes = scopes } }
	granted := accessItem("A", 0, hour, "api://x/Read api://x/Write openid profile")
	checkMatches(t, []matchCase{
		{"as granted", []string{granted}, ask("api://x/Read", "api://x/Write"), "A", false},
		{"another order", []string{granted}, ask("api://x/Write", "api://x/Read"), "A", false},
		{"another case", []string{granted}, ask("API://X/READ"), "A", false},
		{"a subset", []string{granted}, ask("api://x/Write"), "A", false},
		{"none asked", []string{granted}, ask(), "A", false},
		{"twice the same", []string{granted}, ask("api://x/Read", "api://x/read"), "A", false},
		{"one too many", []string{granted}, ask("api://x/Read", "api://x/Delete"), "", false},
		{"a prefix is not the scope", []string{granted}, ask("api://x/Rea"), "", false},
		{"part of a list is not the scope", []string{granted}, ask("api://x/Read api://x/Write"), "", false},
		{"sign-in scopes do not count", []string{granted}, ask("api://x/Read", "offline_access", "EMAIL"), "A", false},
		{"unless they are all", []string{granted}, ask("openid", "email"), "", false},
		{"and were granted", []string{granted}, ask("openid", "Profile"), "A", false},
		{"the fewest scopes", []string{granted, accessItem("B", 0, hour, "api://x/Read")}, ask("api://x/Read"), "B", false},
		{"the newest before the fewest", []string{granted, accessItem("B", -time.Minute, hour, "api://x/Read")}, ask("api://x/Read"), "A", false},
	})
}

func TestFindByOwner(t *testing.T) {
	t.Parallel()
	hour := time.Hour
	mine := accessItem("A", 0, hour, "read")
	other := func(name, value string) string {
		return strings.Replace(mine, `"`+name+`":"`, `"`+name+`":"`+value, 1)
	}
	with := func(more ...string) string { return accessItem("A", 0, hour, "read", more...) }
	checkMatches(t, []matchCase{
		{"mine", []string{mine}, readScope, "A", false},
		{"account in another case", []string{mine}, func(q *query) { q.account = "UID.utid" }, "A", false},
		{"another account", []string{other("home_account_id", "x")}, readScope, "", false},
		{"no account asked", []string{mine}, func(q *query) { q.account = "" }, "", false},
		{"another client", []string{other("client_id", "x")}, readScope, "", false},
		{"client in another case", []string{mine}, func(q *query) { q.clientID = "CLIENT" }, "", false},
		{"the application's", []string{strings.Replace(mine, `"home_account_id":"uid.utid",`, "", 1)}, func(q *query) { q.account = "" }, "A", false},
		{"an assertion's, for the user", []string{with("user_assertion_hash", "h4sh")}, readScope, "", false},
		{"the user's, for an assertion", []string{mine}, func(q *query) { q.assertion = "h4sh" }, "", false},
		{"an assertion's", []string{with("user_assertion_hash", "h4sh")}, func(q *query) { q.assertion = "h4sh" }, "A", false},
		{"padded by MSAL Go", []string{with("user_assertion_hash", "h4sh=")}, func(q *query) { q.assertion = "h4sh" }, "A", false},
		{"as MSAL Node names it", []string{with("userAssertionHash", "h4sh")}, func(q *query) { q.assertion = "h4sh" }, "A", false},
		{"another assertion's", []string{with("userAssertionHash", "h4sh")}, func(q *query) { q.assertion = "other" }, "", false},
		{"bearer by name", []string{with("token_type", "bearer")}, readScope, "A", false},
		{"bound to a key", []string{with("token_type", "pop", "kid", "k")}, readScope, "", false},
		{"qualified by MSAL Go", []string{with("ext_cache_key", "k")}, readScope, "", false},
		{"qualified by MSAL.NET", []string{strings.Replace(mine, "{", `{"ext":{"fmi_path":"p"},`, 1)}, readScope, "", false},
		{"an ext that is no object", []string{strings.Replace(mine, "{", `{"ext":"p",`, 1)}, readScope, "", false},
		{"an empty ext", []string{strings.Replace(mine, "{", `{"ext":{},`, 1)}, readScope, "A", false},
	})
}

func TestFindByRequest(t *testing.T) {
	t.Parallel()
	hour := time.Hour
	realm := func(secret, realm string) string {
		return strings.Replace(accessItem(secret, 0, hour, "read"), `"realm":"utid"`, `"realm":"`+realm+`"`, 1)
	}
	ext := func(secret, resource, claims string, more ...string) string {
		return strings.Replace(accessItem(secret, 0, hour, "read", more...), "{", `{"ext":`+string(newExt(&Request{Resource: resource, Claims: claims}))+`,`, 1)
	}
	tenant := func(t string) func(*query) { return func(q *query) { q.Tenant = t } }
	claims := func(c string) func(*query) { return func(q *query) { q.Claims = c } }
	resource := func(r string) func(*query) { return func(q *query) { q.Resource = r } }
	refused := func(s Secret) func(*query) { return func(q *query) { q.Refused = s } }
	plain := accessItem("P", 0, hour, "read")
	checkMatches(t, []matchCase{
		{"home tenant", []string{realm("A", "other"), realm("B", "utid")}, tenant(""), "B", false},
		{"home tenant by name", []string{realm("A", "other"), realm("B", "utid")}, tenant("utid"), "B", false},
		{"another tenant", []string{realm("A", "other"), realm("B", "utid")}, tenant("other"), "A", false},
		{"a tenant without token", []string{realm("B", "utid")}, tenant("other"), "", false},
		{"the only tenant is home", []string{realm("A", "guest")}, tenant(""), "A", false},
		{"no claims asked", []string{ext("C", "", `{"a":1}`)}, claims(""), "C", false},
		{"claims asked", []string{ext("C", "", `{"a":1}`), plain}, claims(`{"a":1}`), "C", false},
		{"other claims asked", []string{ext("C", "", `{"a":1}`), plain}, claims(`{"a":2}`), "", false},
		{"claims of MSAL Node", []string{accessItem("C", 0, hour, "read", "requestedClaimsHash", claimsHash(`{"a":1}`)), plain}, claims(`{"a":1}`), "C", false},
		{"claims of MSAL Node, not hashed", []string{accessItem("C", 0, hour, "read", "requestedClaims", `{"a":1}`), plain}, claims(`{"a":1}`), "C", false},
		{"resource", []string{ext("R", "https://r", ""), plain}, resource("https://r"), "R", false},
		{"resource and claims", []string{ext("R", "https://r", "{}"), plain}, func(q *query) { q.Resource, q.Claims = "https://r", "{}" }, "R", false},
		{"resource in another case", []string{ext("R", "https://r", ""), plain}, resource("https://R"), "", false},
		{"no resource", []string{ext("R", "https://r", ""), plain}, resource(""), "P", false},
		{"refused", []string{plain}, refused("P"), "", false},
		{"another one refused", []string{plain}, refused("Q"), "P", false},
		{"an older one than the refused", []string{plain, accessItem("Q", -time.Minute, hour, "read write")}, refused("P"), "", false},
		{"a newer one than the refused", []string{plain, accessItem("Q", -time.Minute, hour, "read write")}, refused("Q"), "P", false},
	})
}

func TestFindByTime(t *testing.T) {
	t.Parallel()
	in := func(secret string, cached, expires time.Duration, more ...string) []string {
		return []string{accessItem(secret, cached, expires, "read", more...)}
	}
	margin := func(m time.Duration) func(*query) { return func(q *query) { q.margin = m } }
	m5 := margin(5 * time.Minute)
	checkMatches(t, []matchCase{
		{"fresh", in("A", 0, time.Hour), m5, "A", false},
		{"just outside the margin", in("A", -time.Hour, 5*time.Minute+time.Second), m5, "A", false},
		{"at the margin", in("A", -time.Hour, 5*time.Minute), m5, "A", true},
		{"a second left", in("A", -time.Hour, time.Second), m5, "A", true},
		{"ends now", in("A", -time.Hour, 0), m5, "", false},
		{"ended", in("A", -time.Hour, -time.Minute), m5, "", false},
		{"no margin", in("A", -time.Hour, time.Second), margin(0), "A", false},
		{"short life, quarter not reached", in("A", -time.Minute, 3*time.Minute), m5, "A", false},
		{"short life, quarter reached", in("A", -3*time.Minute, time.Minute), m5, "A", true},
		{"cached in the future", in("A", time.Hour, time.Minute), m5, "A", false},
		{"before refresh_on", in("A", 0, time.Hour, "refresh_on", unixText(testNow.Add(time.Second))), m5, "A", false},
		{"at refresh_on", in("A", 0, time.Hour, "refresh_on", unixText(testNow)), m5, "A", true},
		{"never ends", in("A", 0, 80*365*24*time.Hour), m5, "A", false},
		{"fresh before stale, though older", append(in("A", 0, 4*time.Minute), accessItem("B", -10*time.Minute, time.Hour, "read x")),
			margin(time.Minute), "A", false},
		{"fresh before stale", append(in("A", 0, time.Hour, "refresh_on", unixText(testNow)), accessItem("B", -10*time.Minute, time.Hour, "read x")),
			m5, "B", false},
		{"the newest", append(in("A", -2*time.Minute, time.Hour), accessItem("B", -time.Minute, time.Hour, "read x")), m5, "B", false},
	})
}

func TestFindToken(t *testing.T) {
	t.Parallel()
	it := strings.Replace(accessItem(`A\B"é`, 0, time.Hour, "Read  write"), "{", `{"ext":{"resource":"https://r"},`, 1)
	s := mustSnapshot(t, mustParse(t, sectionOf("AccessToken", it)), testNow)
	for range 2 {
		q := query{Request: Request{Resource: "https://r"}, clientID: testClient, account: testAccount}
		got, _, err := s.find(&q, testNow)
		want := Token{
			AccessToken: `A\B"é`, Type: "Bearer", Scopes: []string{"Read", "write"},
			Expires: testNow.Add(time.Hour), Tenant: "utid", Resource: "https://r",
		}
		if err != nil || string(got.AccessToken) != string(want.AccessToken) {
			t.Fatalf("got %v, %v", got, err)
		}
		wantSame(t, "token", got, want)
	}
}

func TestFindCorrupt(t *testing.T) {
	t.Parallel()
	s := mustSnapshot(t, mustParse(t, sectionOf("AccessToken", accessItem("marker", 0, time.Hour, "read"))), testNow)
	copy(s.json[s.entries[0].span.offset:], "XX")
	q := query{clientID: testClient, account: testAccount}
	for _, q.Refused = range []Secret{"", "x"} {
		if _, fresh, err := s.find(&q, testNow); err == nil || fresh != isNone || strings.Contains(err.Error(), "marker") {
			t.Errorf("got freshness %d and error %v", fresh, err)
		}
	}
}

func TestMissingScopes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ asked, granted, want string }{
		{"", "", ""},
		{"read", "", "read"},
		{"Read write", "READ", "write"},
		{"read openid offline_access", "read", ""},
		{"openid email", "openid", "email"},
	} {
		got := missingScopes(strings.Fields(tt.asked), strings.Fields(tt.granted))
		if !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%q of %q: missing %q, want %q", tt.asked, tt.granted, got, tt.want)
		}
		if covers(strings.Fields(tt.granted), strings.Fields(tt.asked)) != (tt.want == "") {
			t.Errorf("%q of %q: covers disagrees", tt.asked, tt.granted)
		}
	}
}

func refreshItem(secret, client, account string, more ...string) string {
	return fields(append([]string{
		"home_account_id", account, "environment", testEnv, "client_id", client,
		"credential_type", "RefreshToken", "secret", secret,
	}, more...)...)
}

func TestRefreshTokenChoice(t *testing.T) {
	t.Parallel()
	own, family := refreshItem("own", testClient, testAccount), refreshItem("fam", "cousin", testAccount, "family_id", "1")
	member := func(id string) string {
		return fields("client_id", testClient, "environment", testEnv, "family_id", id)
	}
	for _, tt := range []struct {
		name, tokens, apps, want string
	}{
		{"none", "", "", ""},
		{"own", own, "", "own"},
		{"another client's", refreshItem("x", "other", testAccount), "", ""},
		{"another account's", refreshItem("x", testClient, "other"), "", ""},
		{"account in another case", refreshItem("own", testClient, "UID.UTID"), "", "own"},
		{"family, not a member", family, fields("client_id", testClient, "environment", testEnv), ""},
		{"family, another member", family, fields("client_id", "cousin", "environment", testEnv, "family_id", "1"), ""},
		{"family", family, member("1"), "fam"},
		{"another family", family, member("2"), ""},
		{"own before family", family + `,"o":` + own, member("1"), "own"},
		{"an assertion's", refreshItem("x", testClient, testAccount, "user_assertion_hash", "h"), "", ""},
		{"bound", strings.Replace(own, "{", `{"ext":{"a":"b"},`, 1), "", ""},
		{"of two environments the newer", own + `,"o":` + strings.Replace(refreshItem("newer", testClient, testAccount,
			"last_modification_time", "5"), testEnv, "alias.example", 1), "", "newer"},
		{"without secret", fields("home_account_id", testAccount, "client_id", testClient), "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := `{"RefreshToken":{` + prefixed(`"k":`, tt.tokens) + `},"AppMetadata":{` + prefixed(`"k":`, tt.apps) + `}}`
			s := mustSnapshot(t, mustParse(t, text), testNow)
			got, ok, err := s.refreshToken(testClient, testAccount)
			if err != nil || string(got) != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, %v, %v; want %q", string(got), ok, err, tt.want)
			}
			if s.usable(testClient, testAccount, testNow) != ok {
				t.Error("usable disagrees")
			}
		})
	}
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func TestUsableAndLastExpiry(t *testing.T) {
	t.Parallel()
	s := mustSnapshot(t, mustParse(t, sectionOf("AccessToken",
		accessItem("A", 0, time.Minute, "a"), accessItem("B", 0, time.Hour, "b"), accessItem("C", 0, time.Second, "c"))), testNow)
	if got := s.lastExpiry(); !got.Equal(testNow.Add(time.Hour)) {
		t.Errorf("last expiry %v", got)
	}
	for _, tt := range []struct {
		client, account string
		after           time.Duration
		want            bool
	}{
		{testClient, testAccount, 0, true},
		{testClient, testAccount, time.Hour - 1, true},
		{testClient, testAccount, time.Hour, false},
		{testClient, "other", 0, false},
		{testClient, "", 0, false},
		{"other", testAccount, 0, false},
	} {
		if got := s.usable(tt.client, tt.account, testNow.Add(tt.after)); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
	empty := mustSnapshot(t, &document{}, testNow)
	if !empty.lastExpiry().IsZero() || empty.usable(testClient, testAccount, testNow) {
		t.Error("the empty document has something to work with")
	}
}

// Many goroutines decode one token for the first time.
func TestFindConcurrently(t *testing.T) {
	t.Parallel()
	s := benchSnapshot(t)
	done := make(chan string)
	for range 8 {
		go func() {
			q := benchQuery()
			tok, _, err := s.find(&q, testNow)
			if err != nil {
				done <- err.Error()
				return
			}
			done <- string(tok.AccessToken)
		}()
	}
	for range 8 {
		if got := <-done; !strings.HasPrefix(got, "token-2-") {
			t.Errorf("got %q", got)
		}
	}
}

func TestFindAllocations(t *testing.T) {
	s, q := benchSnapshot(t), benchQuery()
	for _, tt := range []struct {
		name string
		set  func()
		want float64
	}{
		{"hit", func() {}, 0},
		{"with refused", func() { q.Refused = "x" }, 0},
		{"with claims", func() { q.Claims = strings.Repeat("c", 100) }, 1},
	} {
		tt.set()
		if got := testing.AllocsPerRun(100, func() { _, _, _ = s.find(&q, testNow) }); got > tt.want {
			t.Errorf("%s: %v allocations, want %v", tt.name, got, tt.want)
		}
	}
}

// benchSnapshot is what a user of a web app has: four access tokens of Entra's
// size, a refresh token and an ID token.
func benchSnapshot(t testing.TB) *snapshot {
	t.Helper()
	d := &document{}
	for i, scope := range []string{"api://tasks/Tasks.Read", "User.Read", "api://files/Files.Read api://files/Files.Write", "Mail.Send"} {
		c := change{signIn: true, grant: Grant{
			AccessToken:  Secret("token-" + string(rune('0'+i)) + "-" + strings.Repeat("x", 1500)),
			RefreshToken: Secret(strings.Repeat("r", 500)), IDToken: Secret(strings.Repeat("i", 900)),
			Scopes: append(strings.Fields(scope), "openid", "profile"), Expires: testNow.Add(time.Hour),
			Account: Account{ID: benchAccount, Tenant: benchAccount[37:], LocalID: "l"},
		}}
		mustApply(t, d, c, &writer{clientID: testClient, environment: testEnv, account: benchAccount}, testNow)
	}
	return mustSnapshot(t, d, testNow)
}

const benchAccount = "00000000-0000-0000-0000-000000000000.11111111-2222-3333-4444-555555555555"

func benchQuery() query {
	return query{
		Request:  Request{Scopes: []string{"api://files/Files.Read"}},
		clientID: testClient, account: benchAccount, margin: 5 * time.Minute,
	}
}

func BenchmarkFind(b *testing.B) {
	s, q := benchSnapshot(b), benchQuery()
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = s.find(&q, testNow)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			q := benchQuery()
			for pb.Next() {
				_, _, _ = s.find(&q, testNow)
			}
		})
	})
	miss := q
	miss.Scopes = []string{"other"}
	b.Run("miss", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = s.find(&miss, testNow)
		}
	})
	b.Run("parse and find", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(s.plain)))
		for b.Loop() {
			fresh, err := parsePlain(s.plain)
			if err != nil {
				b.Fatal(err)
			}
			_, _, _ = fresh.find(&q, testNow)
		}
	})
}

func BenchmarkSave(b *testing.B) {
	s := benchSnapshot(b)
	w := &writer{clientID: testClient, environment: testEnv, account: benchAccount}
	c := change{grant: Grant{AccessToken: "new", Scopes: []string{"User.Read", "openid", "profile"}}}
	b.ReportAllocs()
	for b.Loop() {
		d, err := s.document()
		if err != nil {
			b.Fatal(err)
		}
		mustApply(b, d, c, w, testNow)
		if _, err := encodePlain(s.meta, d, testNow); err != nil {
			b.Fatal(err)
		}
	}
}
