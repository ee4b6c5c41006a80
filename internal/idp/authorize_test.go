package idp_test

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// TestAuthorizeErrorsAreRedirected covers what the client hears about.
func TestAuthorizeErrorsAreRedirected(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{AutoLogin: true})
	tests := []struct {
		name, param string
		values      []string // nil removes
		want        string
	}{
		{"no response type", "response_type", nil, "invalid_request"},
		{"implicit flow", "response_type", []string{"id_token"}, "unsupported_response_type"},
		{"hybrid flow", "response_type", []string{"code id_token"}, "unsupported_response_type"},
		{"no scope", "scope", nil, "invalid_scope"},
		{"no openid", "scope", []string{"profile"}, "invalid_scope"},
		{"bad scope characters", "scope", []string{"openid \"x\""}, "invalid_scope"},
		{"too many scopes", "scope", []string{"openid" + manyScopes(101)}, "invalid_scope"},
		{"no state", "state", nil, "invalid_request"},
		{"control character in state", "state", []string{"a\nb"}, "invalid_request"},
		{"huge state", "state", []string{strings.Repeat("s", 2049)}, "invalid_request"},
		{"no nonce", "nonce", nil, "invalid_request"},
		{"no challenge", "code_challenge", nil, "invalid_request"},
		{"no method", "code_challenge_method", nil, "invalid_request"},
		{"plain method", "code_challenge_method", []string{"plain"}, "invalid_request"},
		{"short challenge", "code_challenge", []string{"abc"}, "invalid_request"},
		{"line break in the challenge", "code_challenge", []string{"abc\n" + strings.Repeat("A", 40)}, "invalid_request"},
		{"fragment", "response_mode", []string{"fragment"}, "invalid_request"},
		{"form_post", "response_mode", []string{"form_post"}, "invalid_request"},
		{"silent", "prompt", []string{"none"}, "login_required"},
		{"silent and not", "prompt", []string{"none login"}, "invalid_request"},
		{"request object", "request", []string{"x.y.z"}, "request_not_supported"},
		{"request object by reference", "request_uri", []string{"http://127.0.0.1/"}, "request_uri_not_supported"},
		{"claims not JSON", "claims", []string{"{"}, "invalid_request"},
		{"claims not an object", "claims", []string{"null"}, "invalid_request"},
		{"relative resource", "resource", []string{"mail"}, "invalid_target"},
		{"resource with fragment", "resource", []string{"api://mail#x"}, "invalid_target"},
		{"two resources", "resource", []string{"api://a", "api://b"}, "invalid_target"},
		{"repeated parameter", "scope", []string{"openid", "openid"}, "invalid_request"},
		{"repeated state", "state", []string{"a", "b"}, "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := authorizeQuery()
			q.Set("login_hint", "anna") // with AutoLogin, passing would redirect too
			delete(q, tt.param)
			if tt.values != nil {
				q[tt.param] = tt.values
			}
			for _, a := range []answer{
				get(t, s.URL()+"/authorize?"+q.Encode()),
				post(t, s.URL()+"/authorize?"+q.Encode(), url.Values{"username": {"anna"}}),
			} {
				got := redirected(t, a, callback)
				if got.Get("error") != tt.want || got.Has("code") {
					t.Errorf("got %v, want error %s", got, tt.want)
				}
				wantState := "the-state"
				if tt.param == "state" {
					wantState = ""
				}
				if got.Get("state") != wantState || got.Get("iss") != s.URL() {
					t.Errorf("got state %q and iss %q", got.Get("state"), got.Get("iss"))
				}
			}
		})
	}
}

func manyScopes(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(" s" + strings.Repeat("x", i))
	}
	return b.String()
}

// TestNoOpenRedirect covers requests whose redirect URI cannot be trusted.
func TestNoOpenRedirect(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{AutoLogin: true})
	tests := map[string]url.Values{
		"unknown client":  {"client_id": {"nobody"}},
		"no client":       {"client_id": {}},
		"two clients":     {"client_id": {idp.DefaultClientID, "nobody"}},
		"no redirect URI": {"redirect_uri": {}},
		"two redirects":   {"redirect_uri": {callback, "https://evil.test/"}},
	}
	for _, uri := range []string{
		"https://evil.test/callback", "http://evil.test/callback", "http://127.0.0.1:1/other",
		"http://127.0.0.1:1/callback/", "http://127.0.0.1:1/callback?x=1", "http://127.0.0.1:1/callback#x",
		"http://127.0.0.1:1/callback/../x", "https://127.0.0.1:1/callback", "http://127.0.0.1.evil.test/callback",
		"http://127.0.0.1:1@evil.test/callback", "http://evil.test\\@127.0.0.1/callback", "http://127.0.0.2:1/callback",
		"//127.0.0.1/callback", "/callback", "javascript:alert(1)", "http://127.0.0.1:x/callback", "http://127.0.0.1:/callback",
		"HTTP://127.0.0.1/callback", "http://127.0.0.1:1/%63allback", "http://127.0.0.1:1/callback ",
	} {
		tests[uri] = url.Values{"redirect_uri": {uri}}
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := authorizeQuery()
			q.Set("login_hint", "anna")
			for param, v := range change {
				q[param] = v
			}
			for _, a := range []answer{
				get(t, s.URL()+"/authorize?"+q.Encode()),
				post(t, s.URL()+"/authorize?"+q.Encode(), url.Values{"username": {"anna"}}),
			} {
				if a.status != http.StatusBadRequest || a.header.Get("Location") != "" {
					t.Errorf("got %d to %q, want a page with 400", a.status, a.header.Get("Location"))
				}
			}
		})
	}
}

func TestLoopbackRedirects(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{Clients: []idp.Client{{ID: "c", Secret: "s", RedirectURIs: []string{
		"http://127.0.0.1/cb", "http://localhost:3000/cb?a=b", "http://[::1]/cb", "https://app.test/cb", "com.example.app:/cb",
	}}}})
	for uri, ok := range map[string]bool{
		"http://127.0.0.1/cb":            true,
		"http://127.0.0.1:80/cb":         true,
		"http://localhost:1234/cb?a=b":   true,
		"http://localhost/cb?a=b":        true,
		"http://localhost:1234/cb":       false,
		"http://localhost:1234/cb?a=c":   false,
		"http://[::1]:5/cb":              true,
		"http://[::2]:5/cb":              false,
		"https://app.test/cb":            true,
		"https://app.test:443/cb":        false,
		"https://app.test/cb?x":          false,
		"com.example.app:/cb":            true,
		"http://127.0.0.1:80/cb?a=b":     false,
		"http://[::ffff:127.0.0.1]:1/cb": false,
	} {
		q := authorizeQuery()
		q.Set("client_id", "c")
		q.Set("redirect_uri", uri)
		if a := get(t, s.URL()+"/authorize?"+q.Encode()); (a.status == http.StatusOK) != ok {
			t.Errorf("%s: got %d, want accepted %v", uri, a.status, ok)
		}
	}
	// Existing parameters of a redirect URI survive.
	q := authorizeQuery()
	q.Set("client_id", "c")
	q.Set("redirect_uri", "http://localhost:9/cb?a=b")
	a := post(t, s.URL()+"/authorize?"+q.Encode(), url.Values{"username": {"anna"}})
	if loc := a.header.Get("Location"); !strings.HasPrefix(loc, "http://localhost:9/cb?a=b&code=") {
		t.Errorf("redirected to %q", loc)
	}
}

// TestPortOfPublicClient: a native application registers a loopback URL without a port
// and without a path, as Entra ID has it, and comes with any port (RFC 8252 §7.3).
func TestPortOfPublicClient(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{Clients: []idp.Client{{ID: "c", Public: true, RedirectURIs: []string{
		"http://localhost", "http://127.0.0.1", "http://app.test", "https://localhost/cb",
	}}}})
	for uri, ok := range map[string]bool{
		"http://localhost:49152":      true,
		"http://127.0.0.1:49152":      true,
		"http://localhost":            true,
		"http://localhost:49152/":     false,
		"http://[::1]:49152":          false,
		"http://app.test:49152":       false,
		"https://localhost:49152/cb":  false,
		"https://localhost:49152":     false,
		"http://localhost:49152.test": false,
		"http://localhost:1@app.test": false,
		"http://localhost.app.test:1": false,
	} {
		for issuer, path := range map[string]string{s.URL(): "/authorize?", s.URL() + "/" + idp.DefaultTenant: "/oauth2/v2.0/authorize?"} {
			q := authorizeQuery()
			q.Set("client_id", "c")
			q.Set("redirect_uri", uri)
			a := post(t, issuer+path+q.Encode(), url.Values{"username": {"anna"}})
			if went := strings.HasPrefix(a.header.Get("Location"), uri+"?code="); went != ok {
				t.Errorf("%s: got %d to %.40q, want accepted %v", uri, a.status, a.header.Get("Location"), ok)
			}
		}
	}
}

func TestLoginForm(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	q := authorizeQuery()
	q.Set("login_hint", "anna@contoso.test")
	a := get(t, s.URL()+"/authorize?"+q.Encode())
	for _, want := range []string{
		`<html lang="en">`, `name="viewport"`, `<label for="username">`, `id="username" name="username" value="anna"`,
		"autofocus", `maxlength="64"`, "color-scheme: light dark", "prefers-color-scheme: dark",
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the form has no %s", want)
		}
	}
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(a.body)
	if style == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(style[1]))
	csp := a.header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
		t.Error("the policy does not allow the page's own style")
	}
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("policy %q has no %s", csp, want)
		}
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("headers %v", a.header)
	}
}

func TestLoginFormEscapes(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{Clients: []idp.Client{
		{ID: `<b id="x">`, Secret: "s", RedirectURIs: []string{"http://127.0.0.1/callback"}},
	}})
	const attack = `"><script>alert(1)</script>`
	q := authorizeQuery()
	q.Set("client_id", `<b id="x">`)
	q.Set("login_hint", attack)
	a := get(t, s.URL()+"/authorize?"+q.Encode())
	if strings.Contains(a.body, "<script") || strings.Contains(a.body, "<b ") {
		t.Error("input reaches the page as markup")
	}
	if !strings.Contains(html.UnescapeString(a.body), attack) {
		t.Error("the hint does not fill the form")
	}
	// Pages that report an error show nothing of the request.
	q.Set("client_id", attack)
	if a := get(t, s.URL()+"/authorize?"+q.Encode()); strings.Contains(html.UnescapeString(a.body), attack) {
		t.Error("the error page repeats its input")
	}
}

func TestUserNames(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	for name, ok := range map[string]bool{
		"a": true, "  anna  ": true, "Zoë Ångström": true, strings.Repeat("é", 64): true, "<b>": true,
		"@contoso.test": true, // a name like any other: there is nothing before the domain
		"":              false, "   ": false, strings.Repeat("é", 65): false, "a\x00b": false, "a\nb": false,
		"a\u202eb": false, "\xff\xfe": false,
	} {
		a := post(t, s.URL()+"/authorize?"+authorizeQuery().Encode(), url.Values{"username": {name}})
		if !ok {
			if a.status != http.StatusBadRequest || !strings.Contains(a.body, `role="alert"`) {
				t.Errorf("%q: got %d, want the form with an error", name, a.status)
			}
			continue
		}
		if redirected(t, a, callback).Get("code") == "" {
			t.Errorf("%q was refused", name)
		}
	}
}

func TestAutoLogin(t *testing.T) {
	t.Parallel()
	auto, manual := listen(t, &idp.Options{AutoLogin: true}), listen(t, nil)
	q := authorizeQuery()
	if a := get(t, auto.URL()+"/authorize?"+q.Encode()); a.status != http.StatusOK {
		t.Errorf("without hint: %d, want the form", a.status)
	}
	q.Set("login_hint", "bad\x01name")
	if a := get(t, auto.URL()+"/authorize?"+q.Encode()); a.status != http.StatusOK {
		t.Errorf("with a hint that is no name: %d, want the form", a.status)
	}
	q.Set("login_hint", "anna")
	code := redirected(t, get(t, auto.URL()+"/authorize?"+q.Encode()), callback).Get("code")
	tok := mustTokens(t, post(t, plain(auto).token(), codeForm(code)))
	if got := payload(t, tok.IDToken)["name"]; got != "anna" {
		t.Errorf("signed in %v, want anna", got)
	}
	if a := get(t, manual.URL()+"/authorize?"+q.Encode()); a.status != http.StatusOK {
		t.Errorf("AutoLogin off: %d, want the form", a.status)
	}
}
