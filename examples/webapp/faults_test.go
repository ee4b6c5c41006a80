package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// TestRefreshFaults lets the token endpoint fail while tokens are refreshed.
// No token may be lost by it, and when the server is back, so is the user.
func TestRefreshFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]idp.Fault{
		"down":           {Endpoint: "token", Status: 503},
		"hangs":          {Endpoint: "token", Kind: "hang"},
		"garbage":        {Endpoint: "token", Kind: "garbage"},
		"huge":           {Endpoint: "token", Kind: "huge"},
		"wrong audience": {Endpoint: "token", Kind: "wrong_audience"},
		"API down":       {Endpoint: "api", Status: 503},
		"API hangs":      {Endpoint: "api", Kind: "hang"},
		"API garbage":    {Endpoint: "api", Kind: "garbage"},
		"API drops":      {Endpoint: "api", Kind: "drop"},
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, "-auto-login")
			v := s.signedIn(t, "ada")
			v.expire(t)
			s.fault(t, fault)
			got := v.get(t, "/api/me")
			got.want(t, http.StatusServiceUnavailable, "identity_server_unavailable")
			if got.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if page := v.post(t, "/call", nil); page.status != http.StatusServiceUnavailable || !strings.Contains(page.body, "still signed in") {
				t.Errorf("the page has status %d: %s", page.status, page.body)
			}
			v.get(t, "/").want(t, http.StatusOK, "") // signed in, as before
			s.idp().ClearFault(fault.Endpoint)
			if fault.Kind == "hang" {
				time.Sleep(500 * time.Millisecond) // until what hung has failed
			}
			v.me(t)
			if got := s.idp().Stats().RefreshReused; got != 0 {
				t.Errorf("%d refresh tokens were used again", got)
			}
		})
	}
}

// TestForeignAnswer has the server answer a refresh with another user's
// tokens. They are not used, nor stored; what the server did to the user's own
// refresh token is its secret, so signing in again is the way on.
func TestForeignAnswer(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.signedIn(t, "ada")
	v.expire(t)
	s.fault(t, idp.Fault{Endpoint: "token", Kind: "foreign_subject", Times: 1})
	v.get(t, "/api/me").want(t, http.StatusServiceUnavailable, "identity_server_unavailable")
	if page := v.get(t, "/"); strings.Contains(page.body, "Foreign") {
		t.Error("the page shows the other user:", page.body)
	}
	v.get(t, "/signin?login_hint=ada").want(t, http.StatusOK, "")
	if got := v.me(t); got.Name != "ada" {
		t.Errorf("the user is %s", got.Name)
	}
}

// TestAPIRefusesToken checks that a refused token is replaced once, unseen.
func TestAPIRefusesToken(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.signedIn(t, "ada")
	s.fault(t, idp.Fault{Endpoint: "api", Status: 401, Times: 1})
	if got := v.me(t); got.Source != "server" {
		t.Errorf("source %s, want server", got.Source)
	}
	if got := s.idp().Stats().TokenRequests.RefreshToken; got != 1 {
		t.Errorf("%d refreshes, want 1", got)
	}
}

// TestRevokedGrant checks rule by rule what happens when the server has ended
// the sign-in: the session ends, and signing in again is all it takes.
func TestRevokedGrant(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login")...)
		ada, bob := s.signedIn(t, "ada"), s.signedIn(t, "bob")
		ada.post(t, "/api/revoke", nil).want(t, http.StatusNoContent, "")
		ada.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
		ada.get(t, "/api/cache").want(t, http.StatusUnauthorized, "sign_in_required")
		ada.get(t, "/").want(t, http.StatusOK, "")
		bob.me(t)
		ada.get(t, "/signin?login_hint=ada").want(t, http.StatusOK, "")
		ada.me(t)
	})
}

// TestSignInFaults lets the token endpoint fail while somebody signs in.
func TestSignInFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault  idp.Fault
		status int
		code   string
	}{
		"down":           {idp.Fault{Endpoint: "token", Status: 503}, 503, "identity_server_unavailable"},
		"hangs":          {idp.Fault{Endpoint: "token", Kind: "hang"}, 503, "identity_server_unavailable"},
		"garbage":        {idp.Fault{Endpoint: "token", Kind: "garbage"}, 503, "identity_server_unavailable"},
		"wrong nonce":    {idp.Fault{Endpoint: "token", Kind: "wrong_nonce"}, 400, "id_token_refused"},
		"wrong audience": {idp.Fault{Endpoint: "token", Kind: "wrong_audience"}, 400, "id_token_refused"},
		"keys down":      {idp.Fault{Endpoint: "keys", Status: 503}, 503, "identity_server_unavailable"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, "-auto-login")
			v := s.visitor(t, 0)
			s.fault(t, test.fault)
			req := v.request(t, http.MethodGet, "/signin?login_hint=ada", nil)
			req.Header.Set("Accept", "application/json")
			v.do(t, req).want(t, test.status, test.code)
			if page := v.get(t, "/signin?login_hint=ada"); page.status != test.status || !strings.Contains(page.body, "<h1") {
				t.Errorf("the page has status %d: %s", page.status, page.body)
			}
			v.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
			s.idp().ClearFault(test.fault.Endpoint)
			v.get(t, "/signin?login_hint=ada").want(t, http.StatusOK, "")
			v.me(t)
		})
	}
}

// TestServerGone has no identity server at all.
func TestServerGone(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.signedIn(t, "ada")
	v.expire(t)
	if err := s.idp().Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.get(t, "/api/me").want(t, http.StatusServiceUnavailable, "identity_server_unavailable")
	v.post(t, "/api/revoke", nil).want(t, http.StatusServiceUnavailable, "identity_server_unavailable")
	v.get(t, "/").want(t, http.StatusOK, "")
	v.get(t, "/healthz").want(t, http.StatusOK, "")
}

// TestStoreGone has no token store: nobody is signed out because of it.
func TestStoreGone(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login", "-nodes=2")
	v := s.signedIn(t, "ada")
	s.loseStore(t)
	other := v.at(s.nodes[1]) // which has nothing of the user in its L1
	for _, path := range []string{"/api/me", "/api/cache", "/healthz", "/events"} {
		got := other.get(t, path)
		got.want(t, http.StatusServiceUnavailable, "cache_unavailable")
		if got.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	if page := other.get(t, "/"); page.status != http.StatusServiceUnavailable || !strings.Contains(page.body, "Try again") {
		t.Errorf("the page has status %d: %s", page.status, page.body)
	}
	if got := other.stays().post(t, "/signout", nil); got.status != http.StatusServiceUnavailable || got.header.Get("Set-Cookie") != "" {
		t.Errorf("signing out has status %d and sets the cookie %q", got.status, got.header.Get("Set-Cookie"))
	}
}
