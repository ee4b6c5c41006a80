package xoauth2

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseChallenges(t *testing.T) {
	t.Parallel()
	type params = map[string]string
	bearer := func(p params) []challenge { return []challenge{{"Bearer", p}} }
	for header, want := range map[string][]challenge{
		"":                             nil,
		" , ,":                         nil,
		"Bearer":                       bearer(params{}),
		`Bearer error="invalid_token"`: bearer(params{"error": "invalid_token"}),
		`Bearer realm="a, Basic b=\"c\"", ERROR = invalid_token ,`: bearer(params{"realm": `a, Basic b="c"`, "error": "invalid_token"}),
		`Bearer a="1", a="2"`:            bearer(params{"a": "1"}),
		`Bearer a=""`:                    bearer(params{"a": ""}),
		`Bearer , a=b`:                   bearer(params{"a": "b"}),
		`Basic realm="x", Bearer a="b"`:  {{"Basic", params{"realm": "x"}}, {"Bearer", params{"a": "b"}}},
		`Negotiate dG9r/==, Bearer a=b`:  {{"Negotiate", params{}}, {"Bearer", params{"a": "b"}}},
		`Negotiate, Bearer a=b`:          {{"Negotiate", params{}}, {"Bearer", params{"a": "b"}}},
		`Bearer a=b Basic c=d`:           bearer(params{"a": "b"}),
		`Bearer a="b`:                    bearer(params{}),
		`Bearer a=b, c="d\`:              bearer(params{"a": "b"}),
		`a=b, Bearer c=d`:                nil,
		`"Bearer" a=b`:                   nil,
		"Bearer a=b, \x00, error=c":      bearer(params{"a": "b"}),
		`Bearer a=b,c="d"`:               bearer(params{"a": "b", "c": "d"}),
		strings.Repeat("a,", 10_000):     nil,
		`Bearer error="invalid_token"é,`: bearer(params{"error": "invalid_token"}),
	} {
		got := parseChallenges([]string{header})
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(challenge{})); diff != "" {
			t.Errorf("%.80q (-want +got):\n%s", header, diff)
		}
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	const claims = `{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}>?`
	const good = `{"access_token":{"x":"??>>"}}`
	for name, tt := range map[string]struct {
		headers []string
		claims  string
		refused bool
	}{
		"none":               {},
		"no error":           {headers: []string{`Bearer realm="x"`}},
		"invalid_token":      {headers: []string{`bearer error="invalid_token"`}, refused: true},
		"another scheme":     {headers: []string{`DPoP error="invalid_token"`}},
		"insufficient_scope": {headers: []string{`Bearer error="insufficient_scope"`}},
		"in the realm":       {headers: []string{`Basic realm="Bearer error=\"invalid_token\""`}},
		"second header":      {headers: []string{`Basic realm="x"`, `Bearer error="invalid_token"`}, refused: true},
		"URL alphabet": {
			headers: []string{`Bearer error="insufficient_claims", claims="` + base64.RawURLEncoding.EncodeToString([]byte(good)) + `"`},
			claims:  good, refused: true,
		},
		"padded": {
			headers: []string{`Bearer realm="", claims="` + base64.StdEncoding.EncodeToString([]byte(good)) + `", error="insufficient_claims"`},
			claims:  good, refused: true,
		},
		"JSON": {headers: []string{`Bearer claims="{\"a\":1}"`}, claims: `{"a":1}`, refused: true},
		"not an object": {
			headers: []string{`Bearer error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(claims)) + `"`},
		},
		"unreadable claims":                   {headers: []string{`Bearer error="insufficient_claims", claims="!"`}},
		"unreadable claims and invalid_token": {headers: []string{`Bearer error="invalid_token", claims="bnVsbA"`}, refused: true},
		"too many":                            {headers: []string{strings.Repeat(" ", maxChallenges), `Bearer error="invalid_token"`}},
	} {
		got, refused := refusal(http.Header{"Www-Authenticate": tt.headers})
		if got != tt.claims || refused != tt.refused {
			t.Errorf("%s: got %q, %v; want %q, %v", name, got, refused, tt.claims, tt.refused)
		}
	}
}

func FuzzRefusal(f *testing.F) {
	f.Add(`Bearer error="invalid_token", claims="e30"`, `Basic realm="a\"b", Negotiate abc==`)
	f.Add(`Bearer a=b,,c="d\`, " ,= ,")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, c := range parseChallenges([]string{a, b}) {
			if c.scheme == "" || strings.ContainsFunc(c.scheme, func(r rune) bool { return !isTokenRune(r) }) {
				t.Errorf("scheme %q", c.scheme)
			}
		}
		claims, refused := refusal(http.Header{"Www-Authenticate": {a, b}})
		if claims != "" && (!refused || !isJSONObject(claims)) {
			t.Errorf("claims %q, refused %v", claims, refused)
		}
	})
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://api.example.com":       "https://api.example.com:443",
		"HTTPS://API.example.com:443":   "https://api.example.com:443",
		"https://api.example.com:8443":  "https://api.example.com:8443",
		"http://127.0.0.1":              "http://127.0.0.1:80",
		"http://localhost:8080":         "http://localhost:8080",
		"http://[::1]:80":               "http://[::1]:80",
		"http://api.example.com":        "",
		"http://localhost.example.com":  "",
		"https://api.example.com/":      "",
		"https://api.example.com/path":  "",
		"https://api.example.com?q":     "",
		"https://api.example.com#f":     "",
		"https://user@api.example.com":  "",
		"https://":                      "",
		"api.example.com":               "",
		"https:api.example.com":         "",
		"ftp://api.example.com":         "",
		"":                              "",
		"https://*.example.com\nforged": "",
	} {
		got, err := parseOrigin(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	if _, ok := originOf(&url.URL{Scheme: "https"}); ok {
		t.Error("an origin without a host")
	}
}
