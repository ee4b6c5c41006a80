package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// TestProgram is what the README shows with curl.
func TestProgram(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login")...)
		v := s.visitor(t, 0)
		page := v.get(t, "/signin?login_hint=ada")
		if page.status != http.StatusOK || !strings.Contains(page.body, "Hello, ada") {
			t.Fatalf("signing in leads to status %d: %.200s", page.status, page.body)
		}
		first := v.me(t)
		if first.Name != "ada" || first.Account == "" || first.Source != "l1" || time.Until(first.Expires) < time.Minute {
			t.Errorf("got %+v", first)
		}
		if len(first.Scopes) == 0 {
			t.Error("no scopes")
		}
		v.expire(t)
		for i, want := range []string{"server", "l1"} {
			got := v.me(t)
			// Over Redis, the news of the refresh may be back before its caller has the
			// token, and is then looked up: in L1.
			if got.Source != want && (i > 0 || len(store) == 0) || got.Account != first.Account {
				t.Errorf("got %+v, want the source %s", got, want)
			}
		}
		if got := s.refreshes(); got != 1 {
			t.Errorf("%d refreshes, want 1", got)
		}
		v.get(t, "/healthz").want(t, http.StatusOK, "")
		if got := v.post(t, "/signout", nil); got.status != http.StatusOK || !strings.Contains(got.body, "You are signed out.") {
			t.Errorf("signing out: status %d", got.status)
		}
		v.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
		v.get(t, "/api/cache").want(t, http.StatusUnauthorized, "sign_in_required")
		v.get(t, "/events").want(t, http.StatusUnauthorized, "sign_in_required")
		v.post(t, "/api/expire", nil).want(t, http.StatusUnauthorized, "sign_in_required")
	})
}

// TestNodes checks that nodes share who is signed in and what is cached.
func TestNodes(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login", "-nodes=3")...)
		v := s.signedIn(t, "ada")
		for _, n := range s.nodes[1:] {
			if got := v.at(n).me(t); got.Source != "provider" {
				t.Errorf("node %d: source %s, want provider", n.number, got.Source)
			}
		}
		v.at(s.nodes[1]).expire(t)
		before := s.refreshes()
		until(t, func() bool {
			v.me(t)
			return s.refreshes() == before+1 // node 1 has heard of it
		})
		v.at(s.nodes[2]).post(t, "/signout", nil).want(t, http.StatusOK, "")
		v.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
	})
}

// TestWithoutScript presses the dashboard's buttons as a browser without
// JavaScript does.
func TestWithoutScript(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.signedIn(t, "ada")
	steps := []struct{ action, want string }{
		{"/call", "The API knows you as ada."},
		{"/expire", "Expired."},
		{"/call", "the identity server</b> in"},
		{"/revoke", "Revoked at the identity server"},
	}
	for _, step := range steps {
		if got := v.post(t, step.action, nil); got.status != http.StatusOK || !strings.Contains(got.body, step.want) {
			t.Errorf("%s: status %d, want %q in %s", step.action, got.status, step.want, got.body)
		}
	}
	got := v.post(t, "/call", nil)
	if got.status != http.StatusUnauthorized || !strings.Contains(got.body, "has ended your sign-in") {
		t.Errorf("after revoking: status %d: %s", got.status, got.body)
	}
	// The session has ended: no circle, and the reason is told once.
	if got := v.get(t, "/"); got.status != http.StatusOK || strings.Contains(got.body, "has ended") {
		t.Errorf("then: status %d: %s", got.status, got.body)
	}
}

// TestSignOutEverywhere checks that an old cookie stays signed out, also after
// the user has signed in again.
func TestSignOutEverywhere(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login")...)
		here, there := s.signedIn(t, "ada"), s.signedIn(t, "ada")
		bob := s.signedIn(t, "bob")
		old := here.Jar.Cookies(mustParse(t, here.base))

		got := here.post(t, "/signout", url.Values{"everywhere": {"1"}})
		got.want(t, http.StatusOK, "")
		thief := s.visitor(t, 0)
		thief.Jar.SetCookies(mustParse(t, thief.base), old)
		thief.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")

		again := s.signedIn(t, "ada")
		again.me(t)
		there.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
		thief = s.visitor(t, 0)
		thief.Jar.SetCookies(mustParse(t, thief.base), old)
		thief.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
		again.me(t)
		bob.me(t)
	})
}

// TestSignOutForPrograms checks the answers, and that failing to tell the server
// is not hidden.
func TestSignOutForPrograms(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	for _, told := range []bool{true, false} {
		v := s.signedIn(t, "ada")
		if !told {
			s.fault(t, idp.Fault{Endpoint: "revoke", Status: 503})
		}
		req := v.request(t, http.MethodPost, "/signout", url.Values{"everywhere": {"1"}})
		req.Header.Set("Accept", "application/json")
		got := v.do(t, req)
		got.want(t, http.StatusOK, "")
		if want := fmt.Sprintf(`{"server_told":%t,"signed_out":true}`, told); strings.TrimSpace(got.body) != want {
			t.Errorf("got %s, want %s", got.body, want)
		}
		v.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
	}
}

// TestInteraction checks that what the identity server demands of the user leads on: a
// program is given a URL to open, and a browser is sent there and comes back.
func TestInteraction(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login")...)
		v := s.signedIn(t, "ada")
		demand := func() {
			t.Helper()
			if err := s.idp().RequireInteraction("ada", `{"id_token":{"acr":{"essential":true}}}`); err != nil {
				t.Fatal(err)
			}
			v.expire(t)
		}
		demand()
		got := v.get(t, "/api/me")
		got.want(t, http.StatusForbidden, "interaction_required")
		target := decode[map[string]string](t, got.body)["signin"]
		if strings.Contains(target, "acr") || !strings.HasPrefix(target, "/signin?step=") {
			t.Errorf("the URL is %s", target)
		}
		v.get(t, target).want(t, http.StatusOK, "")
		if got := v.me(t); got.Name != "ada" {
			t.Errorf("got %+v", got)
		}
		// The same again at once would be a circle.
		demand()
		got = v.get(t, "/api/me")
		got.want(t, http.StatusForbidden, "interaction_required")
		if strings.Contains(got.body, "signin") {
			t.Errorf("a second time: %s", got.body)
		}
		if page := v.post(t, "/call", nil); page.status != http.StatusForbidden || !strings.Contains(page.body, "Not yet") {
			t.Errorf("the page has status %d: %s", page.status, page.body)
		}
		v.get(t, "/").want(t, http.StatusOK, "") // signed in, as before

		bob := s.signedIn(t, "bob")
		if err := s.idp().RequireInteraction("bob", `{"id_token":{"acr":{"essential":true}}}`); err != nil {
			t.Fatal(err)
		}
		bob.expire(t)
		if page := bob.post(t, "/call", nil); page.status != http.StatusOK || !strings.Contains(page.body, "Hello, bob") {
			t.Errorf("a form leads to status %d: %s", page.status, page.body)
		}
		if got := bob.me(t); got.Source != "l1" {
			t.Errorf("got %+v", got)
		}
	})
}

// TestTask writes a task, for which consent is asked for when it is first needed, and
// again after it was withdrawn.
func TestTask(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login")...)
		v := s.signedIn(t, "ada")
		page := v.get(t, "/task")
		if page.status != http.StatusOK || !strings.Contains(page.body, writeScope) || !strings.Contains(page.body, "Permissions requested") || strings.Contains(page.body, apiScope) {
			t.Fatalf("no page asks for consent: status %d: %s", page.status, page.body)
		}
		if got := v.post(t, "/task", url.Values{"text": {"x"}}); !strings.Contains(got.body, "Permissions requested") {
			t.Errorf("without consent: status %d: %s", got.status, got.body)
		}
		if err := s.idp().Consent("ada", clientID, writeScope); err != nil {
			t.Fatal(err)
		}
		if page := v.get(t, "/task"); page.status != http.StatusOK || !strings.Contains(page.body, `action="/task"`) {
			t.Fatalf("with consent: status %d: %s", page.status, page.body)
		}
		got := v.post(t, "/task", url.Values{"text": {"  <b>buy</b> 🍐 "}})
		if got.status != http.StatusOK || !strings.Contains(got.body, "The API has your task: &lt;b&gt;buy&lt;/b&gt; 🍐<") {
			t.Errorf("writing: status %d: %s", got.status, got.body)
		}
		for _, text := range []string{"", " ", "\xff", strings.Repeat("é", maxTask+1)} {
			v.post(t, "/task", url.Values{"text": {text}}).want(t, http.StatusBadRequest, "")
		}
		v.post(t, "/task", url.Values{"text": {strings.Repeat("é", maxTask)}}).want(t, http.StatusOK, "")

		s.fault(t, idp.Fault{Endpoint: "api", Status: 503})
		v.post(t, "/task", url.Values{"text": {"x"}}).want(t, http.StatusServiceUnavailable, "")
		s.idp().ClearFault("api")
		s.visitor(t, 0).get(t, "/task").want(t, http.StatusUnauthorized, "")
	})
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
