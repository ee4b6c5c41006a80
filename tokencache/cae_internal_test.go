package tokencache

import (
	"bytes"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// withCAE is an item's text, with what continuous access evaluation adds to it.
func withCAE(item string) string { return strings.Replace(item, "{", `{"ext":{"cae":"1"},`, 1) }

func TestFindByCAE(t *testing.T) {
	t.Parallel()
	cae := func(q *query) { q.CAE = true }
	both := func(claims string) func(*query) { return func(q *query) { q.CAE, q.Claims = true, claims } }
	plain := accessItem("P", 0, time.Hour, "read")
	newer := accessItem("N", time.Minute, time.Hour, "read write")
	ext := func(text string) string {
		return strings.Replace(accessItem("E", 0, time.Hour, "read"), "{", `{"ext":`+text+`,`, 1)
	}
	challenged := string(newExt(&Request{CAE: true, Claims: `{"a":1}`, Resource: ""}))
	checkMatches(t, []matchCase{
		{"an ordinary one for CAE", []string{plain}, cae, "", false},
		{"CAE for an ordinary one", []string{withCAE(plain)}, func(*query) {}, "", false},
		{"CAE", []string{withCAE(plain), newer}, cae, "P", false},
		{"ordinary", []string{plain, withCAE(newer)}, func(*query) {}, "P", false},
		{"claims for an ordinary one", []string{ext(challenged)}, func(q *query) { q.Claims = `{"a":1}` }, "", false},
		{"claims and CAE", []string{ext(challenged)}, both(`{"a":1}`), "E", false},
		{"other claims and CAE", []string{ext(challenged)}, both(`{"a":2}`), "", false},
		{"CAE after a challenge", []string{ext(challenged)}, cae, "E", false},
		{"CAE and a resource", []string{ext(`{"resource":"r","cae":"1"}`)}, func(q *query) { q.CAE, q.Resource = true, "r" }, "E", false},
		{"another value", []string{ext(`{"cae":"0"}`)}, cae, "", false},
		{"another value, ordinary", []string{ext(`{"cae":"0"}`)}, func(*query) {}, "", false},
		{"CAE and what nobody knows", []string{ext(`{"cae":"1","fmi_path":"p"}`)}, cae, "", false},
		{"CAE, bound to a key", []string{withCAE(accessItem("P", 0, time.Hour, "read", "token_type", "pop"))}, cae, "", false},
		{"the mark from elsewhere", []string{strings.Replace(plain, "{", `{"ext":{"claims":"cae:","fmi_path":"p"},`, 1)}, cae, "", false},
		{"the mark as claims", []string{ext(`{"claims":"cae:"}`)}, cae, "", false},
		{"refused", []string{withCAE(plain)}, func(q *query) { q.CAE, q.Refused = true, "P" }, "", false},
		{"an older one of this kind than the refused", []string{withCAE(newer), withCAE(plain)}, func(q *query) { q.CAE, q.Refused = true, "N" }, "", false},
		{"an ordinary one refused", []string{newer, withCAE(plain)}, func(q *query) { q.CAE, q.Refused = true, "N" }, "P", false},
	})
}

// Whatever is stored, a request gets a token that was obtained as it asks, and if one
// was, it gets one.
func TestFindNeverMixesTheKinds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		requests := rapid.Custom(func(t *rapid.T) Request {
			return Request{
				Scopes:   rapid.SampledFrom([][]string{{"read"}, {"write"}, {"read", "write"}}).Draw(t, "scopes"),
				Tenant:   rapid.SampledFrom([]string{"", "other"}).Draw(t, "tenant"),
				Resource: rapid.SampledFrom([]string{"", "r", "cae:"}).Draw(t, "resource"),
				Claims:   rapid.SampledFrom([]string{"", `{"a":1}`, "cae"}).Draw(t, "claims"),
				CAE:      rapid.Bool().Draw(t, "CAE"),
			}
		})
		d, obtained := &document{}, map[string]Request{}
		for i, req := range rapid.SliceOfN(requests, 1, 8).Draw(t, "obtained") {
			secret := string(rune('A' + i))
			c := change{req: req, grant: Grant{AccessToken: Secret(secret), Expires: testNow.Add(time.Hour)}}
			if err := d.apply(&c, testWriter(), testNow.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
			obtained[secret] = req
		}
		plain, err := encodePlain(meta{}, d, testNow)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parsePlain(plain)
		if err != nil {
			t.Fatal(err)
		}
		for _, req := range append(slices.Clone(requestsOf(obtained)), requests.Draw(t, "asked")) {
			q := query{Request: req, clientID: testClient, account: testAccount}
			tok, _, err := s.find(&q, testNow)
			if err != nil {
				t.Fatal(err)
			}
			from, found := obtained[string(tok.AccessToken)]
			answers := func(r Request) bool {
				return r.CAE == req.CAE && r.Resource == req.Resource && (req.Claims == "" || r.Claims == req.Claims)
			}
			if found && !answers(from) {
				t.Fatalf("asked for %+v, got what was obtained for %+v", req, from)
			}
			if _, same := obtained[secretFor(obtained, req)]; same && !found {
				t.Fatalf("asked for %+v, got nothing", req)
			}
		}
	})
}

func requestsOf(obtained map[string]Request) []Request {
	var list []Request
	for _, r := range obtained {
		list = append(list, r)
	}
	return list
}

// secretFor returns the token that was obtained for exactly the request.
func secretFor(obtained map[string]Request, req Request) string {
	for secret, r := range obtained {
		if flightID(&r) == flightID(&req) {
			return secret
		}
	}
	return ""
}

// caeDocument is goldenDocument with a token of continuous access evaluation, with
// and without claims.
func caeDocument(t testing.TB) *document {
	t.Helper()
	d := goldenDocument(t)
	for _, claims := range []string{"", `{"access_token":{"nbf":null}}`} {
		mustApply(t, d, change{
			req:   Request{Scopes: []string{"Read"}, CAE: true, Claims: claims},
			grant: Grant{AccessToken: Secret("cae" + claims), Expires: testNow.Add(28 * time.Hour)},
		}, testWriter(), testNow)
	}
	return d
}

// What is stored of such tokens must stay readable, and must not be served by a
// version that does not know of them: in what it knows of the format they are
// special.
func TestCAEPlaintextIsStable(t *testing.T) {
	t.Parallel()
	const file = "plaintext-1-cae.hex"
	if *golden {
		got, _ := encodePlain(goldenMeta, caeDocument(t), testNow)
		if err := os.WriteFile("testdata/"+file, []byte(hex.EncodeToString(got)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := hex.DecodeString(string(bytes.TrimSpace(readFile(t, file))))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := encodePlain(goldenMeta, caeDocument(t), testNow); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the plaintext changed (%v):\n%s", err, hex.Dump(got))
	}
	s, err := parsePlain(want)
	if err != nil {
		t.Fatal(err)
	}
	q := query{Request: Request{Scopes: []string{"read"}}, clientID: testClient, account: testAccount}
	if tok, _, err := s.find(&q, testNow); err != nil || tok.AccessToken != "" {
		t.Errorf("an ordinary request found %q, %v", string(tok.AccessToken), err)
	}
	q.CAE = true
	if tok, _, err := s.find(&q, testNow); err != nil || !strings.HasPrefix(string(tok.AccessToken), "cae") {
		t.Errorf("found %q, %v", string(tok.AccessToken), err)
	}
	marked := 0
	for i := range s.entries {
		e := &s.entries[i]
		if e.flags&flagCAE == 0 {
			continue
		}
		marked++
		if b := e.append(nil); entryFlags(b[1])&^flagHome != flagSpecial || !bytes.Contains(b, []byte(caeMark+e.claims)) {
			t.Errorf("an older version would read the flags %d", b[1])
		}
	}
	if marked != 2 {
		t.Errorf("%d tokens of continuous access evaluation, want 2", marked)
	}
}

// A version that does not know of continuous access evaluation keeps the document
// as it is and writes an index in which such a token is special alone. It is then
// obtained again, in its place.
func TestCAEAfterAnOlderVersion(t *testing.T) {
	t.Parallel()
	d := caeDocument(t)
	text, all := d.encode()
	entries := d.entries(all)
	for i := range entries {
		if entries[i].flags&flagCAE != 0 {
			entries[i].flags = entries[i].flags&^flagCAE | flagSpecial
		}
	}
	s, err := parsePlain(assemble(goldenMeta, appendIndex(nil, entries), text))
	if err != nil {
		t.Fatal(err)
	}
	q := query{Request: Request{Scopes: []string{"read"}, CAE: true}, clientID: testClient, account: testAccount}
	for _, q.CAE = range []bool{false, true} {
		if tok, _, err := s.find(&q, testNow); err != nil || tok.AccessToken != "" {
			t.Errorf("CAE %v: found %q, %v", q.CAE, string(tok.AccessToken), err)
		}
	}
	again, err := s.document()
	if err != nil {
		t.Fatal(err)
	}
	before := len(again.sections[accessTokens])
	c := change{req: Request{Scopes: []string{"Read"}, CAE: true}, grant: Grant{AccessToken: "again", Expires: testNow.Add(time.Hour)}}
	mustApply(t, again, c, testWriter(), testNow.Add(time.Second))
	if got := len(again.sections[accessTokens]); got != before {
		t.Errorf("%d access tokens became %d", before, got)
	}
	if tok, _, err := mustSnapshot(t, again, testNow).find(&q, testNow); err != nil || tok.AccessToken != "again" {
		t.Errorf("found %q, %v", string(tok.AccessToken), err)
	}
}

// A token that came with a sign-in is of the kind that the grant says; that of a
// refresh is what was asked for, whatever the grant says.
func TestCAEOfASignIn(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit func(*change)
		want bool
	}{
		"sign-in":              {func(*change) {}, false},
		"sign-in with it":      {func(c *change) { c.grant.CAE = true }, true},
		"refresh, grant's own": {func(c *change) { c.signIn, c.grant.CAE = false, true }, false},
		"refresh":              {func(c *change) { c.signIn, c.req.CAE = false, true }, true},
	} {
		c := signInChange("A0", "R0")
		tt.edit(&c)
		d := &document{}
		mustApply(t, d, c, testWriter(), testNow)
		if got := d.sections[accessTokens][0].qualifiers().cae; got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
		if d.sections[refreshTokens][0].qualifiers() != (qualifiers{}) {
			t.Errorf("%s: the refresh token is qualified", name)
		}
	}
}
