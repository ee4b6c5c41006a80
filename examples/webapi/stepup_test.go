package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestStepUp: what the server demands of the user when the API asks for a token
// travels back to the web app as a challenge, and on to the browser in the middle of
// its request. The user comes back to the page, and the call works.
func TestStepUp(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.signedIn(t, "ada")
	v.chain(t)
	v.post(t, "/demand", nil).says(t, http.StatusOK, "second factor")
	got := v.bearer(t, s.orders.program, "GET", "/orders", "Bearer "+s.token(t, ordersScope))
	got.want(t, http.StatusUnauthorized, "")
	if c := got.header.Get("WWW-Authenticate"); !strings.HasPrefix(c, `Bearer error="insufficient_claims", claims="ey`) {
		t.Errorf("the challenge is %q", c)
	}
	got = v.stays().get(t, "/orders")
	at, err := url.Parse(got.header.Get("Location"))
	if err != nil || got.status != http.StatusSeeOther || at.Scheme+"://"+at.Host != s.issuer.url {
		t.Fatalf("the browser is answered %d, and sent to %q", got.status, at)
	}
	if q := at.Query(); q.Get("claims") != secondFactor || !strings.HasPrefix(q.Get("login_hint"), "ada@") {
		t.Errorf("the server is asked with the claims %q of %q", q.Get("claims"), q.Get("login_hint"))
	}
	if got := v.get(t, "/"); !strings.Contains(got.body, "Hello, ada") {
		t.Error("a challenge has signed the user out")
	}
	back := v.signIn(t, "/orders", "ada")
	back.says(t, http.StatusOK, pricesAudience)
	if back.path != "/orders" {
		t.Errorf("the user comes back to %q", back.path)
	}
	checkHops(t, v.chain(t).Hops, "ada")
}

// TestStepUpOfProgram: a program is told which local URL to open in its user's
// browser. What is asked for there is in the session, not in the URL.
func TestStepUpOfProgram(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.signedIn(t, "ada")
	v.post(t, "/demand", nil)
	var links []string
	for range 2 {
		got := v.get(t, "/api/chain")
		got.want(t, http.StatusForbidden, "interaction_required")
		links = append(links, decode[map[string]string](t, got.body)["signin"])
	}
	link := links[0]
	if !strings.HasPrefix(link, "/signin?step=") || links[1] != link {
		t.Fatalf("got the links %q", links)
	}
	s.signedIn(t, "bob").get(t, link).says(t, http.StatusBadRequest, "That link is not valid") // nobody else's
	s.visitor(t).get(t, link).says(t, http.StatusBadRequest, "That link is not valid")
	v.signIn(t, link, "ada")
	checkHops(t, v.chain(t).Hops, "ada")
	v.get(t, link).says(t, http.StatusBadRequest, "That link is not valid") // the step is taken
}

// TestStepUpEndless: a demand that no step meets sends nobody round in circles, and
// signs nobody out.
func TestStepUpEndless(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.signedIn(t, "ada")
	v.post(t, "/demand", nil)
	before := s.issuer.server.Stats().SignIns
	v.Transport = &insatiable{v.Transport, func() error { return s.issuer.server.RequireInteraction("ada", secondFactor) }}
	page := v.get(t, "/orders")
	page.says(t, http.StatusForbidden, "Not yet")
	page.says(t, http.StatusForbidden, "acrs") // what is asked for
	if n := s.issuer.server.Stats().SignIns - before; n != 1 || page.path != "/orders" {
		t.Errorf("it took %d steps, and ends at %s", n, page.path)
	}
	for range 2 {
		got := v.get(t, "/api/chain")
		got.want(t, http.StatusForbidden, "interaction_required")
		if _, ok := decode[map[string]string](t, got.body)["signin"]; ok {
			t.Error("a program is sent round in circles")
		}
	}
	v.get(t, "/").says(t, http.StatusOK, "Hello, ada")
}

// insatiable demands the same again whenever the browser comes back from the server.
type insatiable struct {
	http.RoundTripper
	demand func() error
}

func (i *insatiable) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := i.RoundTripper.RoundTrip(req)
	if err == nil && req.URL.Path == "/callback" {
		err = i.demand()
	}
	return resp, err
}

// TestStepUpRefused: whoever does not take the step, or has another user take it, is
// signed in as before.
func TestStepUpRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.signedIn(t, "ada")
	v.post(t, "/demand", nil)
	for text, form := range map[string]url.Values{
		"You did not take the step":  {"username": {"ada"}, "consent": {"deny"}},
		"Another user has signed in": {"username": {"eve"}, "consent": {"accept"}},
	} {
		target := v.stays().get(t, "/orders").header.Get("Location")
		if form.Get("consent") == "deny" {
			target += "&prompt=consent" // or there is nothing to refuse
		}
		resp, err := v.PostForm(target, form)
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, resp)
		_ = resp.Body.Close()
		got.says(t, http.StatusForbidden, text)
		v.get(t, "/").says(t, http.StatusOK, "Hello, ada")
	}
	v.signIn(t, "/orders", "ada").says(t, http.StatusOK, pricesAudience)
}

// TestClaimsOfALink: nobody makes a link that asks a user of this app for something.
func TestClaimsOfALink(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.visitor(t).stays()
	got := v.get(t, "/signin?login_hint=ada&scope=a&claims="+url.QueryEscape(secondFactor))
	at, err := url.Parse(got.header.Get("Location"))
	if err != nil || got.status != http.StatusSeeOther {
		t.Fatalf("status %d, and %v", got.status, err)
	}
	if q := at.Query(); q.Has("claims") || !strings.Contains(q.Get("scope"), ordersScope) || strings.HasPrefix(q.Get("scope"), "a ") {
		t.Errorf("the server is asked for %q, with the claims %q", q.Get("scope"), q.Get("claims"))
	}
}
