package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestHostile sends what an attacker would, to a user who is signed in, and
// checks that it changes nothing.
func TestHostile(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.signedIn(t, "ada")
	before := v.me(t).Account
	tests := map[string]struct {
		method, path string
		header       map[string]string
		status       int
	}{
		"forged state":         {path: "/callback?code=x&state=forged", status: 400},
		"no state":             {path: "/callback?code=x", status: 400},
		"forged error":         {path: "/callback?error=access_denied&state=forged", status: 400},
		"open redirect":        {path: "/signin?return_to=https://evil.test/", status: 400},
		"without a scheme":     {path: "/signin?return_to=//evil.test/", status: 400},
		"with a backslash":     {path: `/signin?return_to=` + url.QueryEscape(`/\evil.test`), status: 400},
		"split header":         {path: "/signin?return_to=/%0d%0aSet-Cookie:a=b", status: 400},
		"tab in path":          {path: "/signin?return_to=/%09/evil.test", status: 400},
		"no such step":         {path: "/signin?step=x", status: 400},
		"a task by link":       {path: "/task?text=x", method: "PUT", status: 405},
		"a task cross-site":    {method: "POST", path: "/task", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 403},
		"no task":              {method: "POST", path: "/task", status: 400},
		"endless hint":         {path: "/signin?login_hint=" + strings.Repeat("a", 300), status: 400},
		"sign-out by link":     {path: "/signout", status: 405},
		"expire by link":       {path: "/api/expire", status: 405},
		"sign-out cross-site":  {method: "POST", path: "/signout", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 403},
		"sign-out same-site":   {method: "POST", path: "/signout", header: map[string]string{"Sec-Fetch-Site": "same-site"}, status: 403},
		"sign-out by origin":   {method: "POST", path: "/signout", header: map[string]string{"Origin": "https://evil.test"}, status: 403},
		"expire cross-site":    {method: "POST", path: "/api/expire", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 403},
		"revoke cross-site":    {method: "POST", path: "/api/revoke", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 403},
		"huge header":          {path: "/", header: map[string]string{"Cookie": "coatcheck_example=" + strings.Repeat("a", 70_000)}, status: 431},
		"a page that is not":   {path: "/nothing/here", status: 404},
		"files outside static": {path: "/static/../node.go", status: 404},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			method := test.method
			if method == "" {
				method = http.MethodGet
			}
			req := v.request(t, method, test.path, nil)
			for key, value := range test.header {
				req.Header.Set(key, value)
			}
			got := v.stays().do(t, req)
			got.want(t, test.status, "")
			if location := got.header.Get("Location"); location != "" {
				t.Error("it redirects to", location)
			}
			if got := v.me(t).Account; got != before {
				t.Errorf("the user is now %s", got)
			}
		})
	}
	if got := s.idp().Stats(); got.SignIns != 1 || got.TokenRequests.RefreshToken != 0 {
		t.Errorf("the server has seen %+v", got)
	}
}

// TestStrangeCookies checks that no cookie is worth more than none.
func TestStrangeCookies(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, value := range []string{"", "x", strings.Repeat("a", 4096), "../../etc/passwd", "%00", `"`} {
		v := s.visitor(t, 0)
		req := v.request(t, http.MethodGet, "/api/me", nil)
		req.Header.Set("Cookie", "coatcheck_example="+value)
		v.do(t, req).want(t, http.StatusUnauthorized, "sign_in_required")
	}
}

// callbackOf begins a sign-in and returns the URL that the identity server
// sends the browser back to.
func callbackOf(t *testing.T, v *visitor, user string) string {
	t.Helper()
	got := v.stays().get(t, "/signin?login_hint="+user)
	got.want(t, http.StatusSeeOther, "")
	elsewhere := &visitor{Client: v.stays().Client}
	got = elsewhere.get(t, got.header.Get("Location"))
	got.want(t, http.StatusSeeOther, "")
	return strings.TrimPrefix(got.header.Get("Location"), v.base)
}

// TestCallback replays a callback, and brings one to another browser.
func TestCallback(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login")...)
		victim, attacker := s.visitor(t, 0), s.visitor(t, 0)

		// Login CSRF: the attacker's callback in the victim's browser.
		callback := callbackOf(t, attacker, "mallory")
		victim.stays().get(t, callback).want(t, http.StatusBadRequest, "")
		victim.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")

		// The attacker's code in a sign-in that the victim has begun: its PKCE
		// verifier, and its nonce, are of another sign-in.
		own := mustParse(t, callbackOf(t, victim, "ada"))
		q := own.Query()
		q.Set("code", mustParse(t, callback).Query().Get("code"))
		victim.stays().get(t, "/callback?"+q.Encode()).want(t, http.StatusBadRequest, "")
		victim.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")

		// Replay.
		callback = callbackOf(t, victim, "ada")
		victim.stays().get(t, callback).want(t, http.StatusSeeOther, "")
		victim.stays().get(t, callback).want(t, http.StatusBadRequest, "")
		if got := victim.me(t); got.Name != "ada" {
			t.Errorf("the victim is %s", got.Name)
		}

		// Of another server (RFC 9207).
		q = mustParse(t, callbackOf(t, victim, "ada")).Query()
		q.Set("iss", "https://evil.test")
		victim.stays().get(t, "/callback?"+q.Encode()).want(t, http.StatusBadRequest, "")
	})
}

// TestFixation checks that signing in changes the session token.
func TestFixation(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login")...)
		v := s.visitor(t, 0)
		callback := callbackOf(t, v, "ada")
		planted := v.Jar.Cookies(mustParse(t, v.base))
		v.stays().get(t, callback).want(t, http.StatusSeeOther, "")
		v.me(t)
		attacker := s.visitor(t, 0)
		attacker.Jar.SetCookies(mustParse(t, v.base), planted)
		attacker.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
	})
}

// TestPendingSignIns checks that a session holds a few, the latest ones.
func TestPendingSignIns(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login")...)
		v := s.visitor(t, 0)
		const pending = 5
		var callbacks []string
		for range pending + 1 {
			callbacks = append(callbacks, callbackOf(t, v, "ada"))
		}
		v.stays().get(t, callbacks[0]).want(t, http.StatusBadRequest, "")
		v.stays().get(t, callbacks[1]).want(t, http.StatusSeeOther, "")
		v.stays().get(t, callbacks[pending]).want(t, http.StatusSeeOther, "")
	})
}

// TestReturnTo checks that the user arrives where they wanted to go.
func TestReturnTo(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.visitor(t, 0)
	got := v.get(t, "/signin?login_hint=ada&return_to=/api/cache")
	got.want(t, http.StatusOK, "")
	if !strings.HasPrefix(got.body, `{"account"`) {
		t.Errorf("arrived at %.80s", got.body)
	}
}

// TestLocalhost checks that a browser which comes by another name is led to the
// one that its cookies will belong to.
func TestLocalhost(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.visitor(t, 0).stays()
	for _, path := range []string{"/", "/signin?login_hint=ada"} {
		req := v.request(t, http.MethodGet, path, nil)
		req.Host = "localhost:" + req.URL.Port()
		got := v.do(t, req)
		if location := got.header.Get("Location"); got.status != http.StatusSeeOther || location != v.base+path {
			t.Errorf("%s: got status %d to %q", path, got.status, location)
		}
	}
}
