package xoauth2_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Consent in the middle of a request: the user returns to the page with the token that
// it needs, and keeps those from before.
func TestStepUpConsent(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.signedIn(t, "anna")
	p.one(http.MethodGet, "/put?value=apples", nil)
	planted := p.cookies()
	mail := "/token?x=%2F%3F&scope=" + url.QueryEscape(mailScope)
	first := p.one(http.MethodGet, mail, nil)
	asked, err := url.Parse(first.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	q := asked.Query()
	if q.Get("login_hint") != "anna@contoso.test" || !strings.HasPrefix(q.Get("scope"), "openid offline_access "+mailScope) || first.header.Get("Cache-Control") != "no-store" {
		t.Errorf("status %d, asks for %v", first.status, q)
	}
	got := p.visit(http.MethodGet, mail, nil)
	got.at(t, http.StatusOK, mail)
	if !strings.Contains(got.body, mailScope) {
		t.Errorf("got %s", got.body)
	}
	p.is("user=anna basket=apples")
	s.person(t, "").sets(planted).is("user=nobody basket=")

	before := s.idp.Stats().TokenRequests
	for _, scope := range []string{apiScope, mailScope} {
		if got := p.one(http.MethodGet, "/token?scope="+url.QueryEscape(scope), nil); got.status != http.StatusOK {
			t.Errorf("%s: status %d", scope, got.status)
		}
	}
	if after := s.idp.Stats().TokenRequests; after != before {
		t.Errorf("tokens were asked for again: %+v, %+v", before, after)
	}
}

// Whoever says no gets the application's answer, stays signed in, and may change their
// mind.
func TestStepUpDenied(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.signedIn(t, "anna")
	p.says = "deny"
	target := "/token?scope=" + url.QueryEscape(writeScope)
	got := p.visit(http.MethodGet, target, nil)
	if err := s.lastError(); got.status != http.StatusTeapot || !errors.Is(err, xoauth2.ErrDenied) || len(p.visited) != 3 {
		t.Errorf("status %d after %d requests: %v", got.status, len(p.visited), err)
	}
	p.is("user=anna basket=")
	p.says = "accept"
	p.visit(http.MethodGet, target, nil).at(t, http.StatusOK, target)
}

// What is demanded for ever, is asked of the user once.
func TestStepUpIsNoLoop(t *testing.T) {
	t.Parallel()
	const claims = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	s := newSite(t, nil)
	p := s.signedIn(t, "anna")
	signIns := func() int { return int(s.idp.Stats().SignIns) - 1 }

	s.demands(func(*http.Request) error { return interaction(claims, apiScope) })
	for range 3 {
		got := p.visit(http.MethodGet, "/demand", nil)
		got.at(t, http.StatusForbidden, "/demand")
		if !strings.Contains(got.body, "the app's own words") {
			t.Errorf("the page says %s", got.body)
		}
	}
	if signIns() != 1 {
		t.Errorf("%d round trips, want one", signIns())
	}
	// The same, in other words, and by another way.
	s.demands(func(*http.Request) error { return interaction(claims, strings.ToUpper(apiScope), apiScope) })
	p.visit(http.MethodGet, "/demand", nil).at(t, http.StatusForbidden, "/demand")
	if got := p.script(http.MethodGet, "/demand", ""); got.status != http.StatusForbidden || strings.Contains(got.body, "signin") {
		t.Errorf("a script: status %d: %s", got.status, got.body)
	}
	if signIns() != 1 {
		t.Errorf("%d round trips, want one", signIns())
	}
	// Something else may be asked for, but not for ever either.
	n := 0
	s.demands(func(*http.Request) error {
		n++
		return interaction(fmt.Sprintf(`{"access_token":{"nbf":{"value":"%d"}}}`, n), apiScope)
	})
	p.visit(http.MethodGet, "/demand", nil).at(t, http.StatusForbidden, "/demand")
	if signIns() != 5 {
		t.Errorf("%d round trips, want 5", signIns())
	}
	p.is("user=anna basket=")
}

// A server that wants the user, says so when the user comes, and says it again.
func TestStepUpFromCallback(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.signedIn(t, "anna")
	for _, code := range []string{"interaction_required", "consent_required", "login_required"} {
		begun := p.one(http.MethodGet, "/token?scope="+url.QueryEscape(writeScope), nil).header.Get("Location")
		u, err := url.Parse(begun)
		if err != nil {
			t.Fatal(err)
		}
		q := url.Values{"state": {u.Query().Get("state")}, "error": {code}, "iss": {s.idp.URL()}}
		got := p.visit(http.MethodGet, "/callback?"+q.Encode(), nil)
		var needed *tokencache.InteractionRequiredError
		if err := s.lastError(); got.status != http.StatusTeapot || !errors.As(err, &needed) || len(p.visited) != 1 {
			t.Errorf("%s: status %d, %v", code, got.status, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stepped := range s.stepped {
		if stepped {
			t.Error("a sign-in began where another had failed")
		}
	}
}

// script sends a request as a script of the page does.
func (p *person) script(method, target, pageOf string) page {
	p.t.Helper()
	return p.one(method, target, http.Header{"Sec-Fetch-Mode": {"cors"}, "Accept": {"*/*"}, "Referer": {p.base + pageOf}})
}

// A program is told what its user has to open, and the scopes and claims are in no URL.
func TestStepUpForPrograms(t *testing.T) {
	t.Parallel()
	s := newSite(t, &xoauth2.WebOptions{Program: func(r *http.Request) bool { return r.URL.Query().Has("program") }})
	p := s.signedIn(t, "anna")
	target := "/token?scope=" + url.QueryEscape(writeScope)
	got := p.script(http.MethodPost, target, "/?form=7")
	var body struct{ Error, SignIn string }
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || got.status != http.StatusForbidden || got.header.Get("Location") != "" ||
		body.Error != "interaction_required" || !strings.HasPrefix(body.SignIn, signInPath+"?step=") || strings.Contains(body.SignIn, "Tasks") {
		t.Fatalf("status %d: %s", got.status, got.body)
	}
	if again := p.script(http.MethodPost, target, "/?form=7"); again.body != got.body {
		t.Errorf("asked again, it is another step: %s", again.body)
	}
	if named := p.one(http.MethodGet, target+"&program", nil); named.status != http.StatusForbidden || !strings.Contains(named.body, `"signin"`) {
		t.Errorf("a program by its path: status %d: %s", named.status, named.body)
	}
	// In the browser of somebody else the link is worth nothing.
	bert := s.signedIn(t, "bert")
	bert.visit(http.MethodGet, body.SignIn, nil)
	if err := s.lastError(); !errors.Is(err, xoauth2.ErrRequest) {
		t.Errorf("bert: %v", err)
	}
	// So it is when its user has signed out, and the session goes on.
	p.one(http.MethodGet, "/forget", nil)
	if got := p.one(http.MethodGet, body.SignIn, nil); got.status != http.StatusTeapot || !errors.Is(s.lastError(), xoauth2.ErrRequest) {
		t.Errorf("signed out: status %d, %v", got.status, s.lastError())
	}
	p = s.signedIn(t, "anna")
	if err := json.Unmarshal([]byte(p.script(http.MethodPost, target, "/?form=7").body), &body); err != nil {
		t.Fatal(err)
	}
	p.visit(http.MethodGet, body.SignIn, nil).at(t, http.StatusOK, "/?form=7")
	if got := p.script(http.MethodPost, target, ""); got.status != http.StatusOK || !strings.Contains(got.body, writeScope) {
		t.Errorf("afterwards: status %d: %s", got.status, got.body)
	}
	// The step is over, and so is its link.
	if got := p.one(http.MethodGet, body.SignIn, nil); got.status != http.StatusTeapot || !errors.Is(s.lastError(), xoauth2.ErrRequest) {
		t.Errorf("the same link: status %d", got.status)
	}
}

// After a form, which cannot be sent again, the user is where the form is.
func TestStepUpFromForm(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	target := "/token?scope=" + url.QueryEscape(writeScope)
	for referer, want := range map[string]string{"/?form=7": "/?form=7", "": "/", "http://evil.test/x": "/"} {
		p := s.signedIn(t, "anna"+fmt.Sprint(len(referer)))
		if strings.HasPrefix(referer, "/") {
			referer = p.base + referer
		}
		p.visit(http.MethodPost, target, http.Header{"Referer": {referer}}).at(t, http.StatusOK, want)
		if got := p.one(http.MethodPost, target, nil); got.status != http.StatusOK {
			t.Errorf("sent again: status %d", got.status)
		}
	}
}

// Two tabs step up at the same moment, and both return, whether at the same moment too.
func TestStepUpInTwoTabs(t *testing.T) {
	t.Parallel()
	for name, atOnce := range map[string]bool{"one after the other": false, "at once": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			p := s.signedIn(t, "anna")
			s.store.slow.Store(int64(20 * time.Millisecond))
			s.fault(t, idp.Fault{Endpoint: "token", Delay: 200 * time.Millisecond, Times: 2})
			scopes := []string{writeScope, mailScope}
			targets, callbacks := make([]string, 2), make([]string, 2)
			var wg sync.WaitGroup
			for i, scope := range scopes { // both have loaded the session before one of them changes it
				targets[i] = "/token?scope=" + url.QueryEscape(scope)
				wg.Go(func() {
					begun := p.one(http.MethodGet, targets[i], nil).header.Get("Location")
					callbacks[i] = p.consent(begun).header.Get("Location")
				})
			}
			wg.Wait()
			var arrived [2]page
			comes := func(i int) { arrived[i] = p.visit(http.MethodGet, callbacks[i], nil) }
			if atOnce {
				s.fault(t, idp.Fault{Endpoint: "token", Delay: 200 * time.Millisecond, Times: 2})
				tabs := []*person{s.person(t, "anna").sets(p.cookies()), s.person(t, "anna").sets(p.cookies())}
				comes = func(i int) {
					wg.Go(func() { arrived[i] = tabs[i].visit(http.MethodGet, callbacks[i], nil) })
				}
			}
			comes(0)
			comes(1)
			wg.Wait()
			for i, got := range arrived {
				got.at(t, http.StatusOK, targets[i])
			}
			if err := s.lastError(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Not every error is one that signing in mends, and not everybody can.
func TestStepUpDeclines(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p, nobody := s.signedIn(t, "anna"), s.person(t, "")
	tests := map[string]error{
		"signed out":       tokencache.ErrNoTokens,
		"down":             &tokencache.ServerError{Err: errors.New("x")},
		"store down":       tokencache.ErrUnavailable,
		"huge claims":      interaction(`{"a":"` + strings.Repeat("a", 5000) + `"}`),
		"many scopes":      interaction("", strings.Fields(strings.Repeat("api://a/b ", 500))...),
		"claims no object": interaction(`[]`),
		"scopes in one":    interaction("", "api://a/b api://a/c"),
	}
	for name, err := range tests {
		s.demands(func(*http.Request) error { return err })
		if got := p.one(http.MethodGet, "/demand", nil); got.status != http.StatusForbidden || got.header.Get("Set-Cookie") != "" || !strings.Contains(got.body, "own words") {
			t.Errorf("%s: status %d: %s", name, got.status, got.body)
		}
	}
	s.demands(func(*http.Request) error { return interaction("", writeScope) })
	if got := nobody.one(http.MethodGet, "/demand", nil); got.status != http.StatusForbidden || !strings.Contains(got.body, "own words") {
		t.Errorf("nobody: status %d: %s", got.status, got.body)
	}
	s.demands(func(*http.Request) error { return fmt.Errorf("a: %w", interaction("")) }) // nothing but to sign in again
	p.visit(http.MethodGet, "/demand", nil).at(t, http.StatusForbidden, "/demand")
	if n := s.idp.Stats().SignIns; n != 2 {
		t.Errorf("%d sign-ins, want 2", n)
	}
}

// Whatever a server demands, the session stays small.
func TestStepUpIsBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.signedIn(t, "anna")
	n := 0
	s.demands(func(*http.Request) error {
		n++
		return interaction(fmt.Sprintf(`{"%d":"%s"}`, n, strings.Repeat("a", 2000)), fmt.Sprintf("api://%d/%s", n, strings.Repeat("b", 2000)))
	})
	for range 20 {
		p.one(http.MethodGet, "/demand?"+strings.Repeat("c", 2000), nil)
		p.script(http.MethodGet, "/demand", "/?"+strings.Repeat("c", 2000))
	}
	s.sessionsOf(t, func(ctx context.Context) {
		for _, key := range s.sessions.Keys(ctx) {
			if size := len(s.sessions.GetString(ctx, key)); size > 60<<10 {
				t.Errorf("%s has %d bytes", key, size)
			}
		}
	})
}
