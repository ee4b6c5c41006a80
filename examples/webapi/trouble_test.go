package main

import (
	"html"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// TestConsentMissing: the API may not go on in the user's name, says so in a
// challenge, and the user hears of it in words and can mend it.
func TestConsentMissing(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.signedIn(t, "ada")
	v.chain(t)
	v.post(t, "/withdraw", nil).says(t, http.StatusOK, "Orders may not call Prices")
	token := "Bearer " + s.token(t, ordersScope)
	for range 2 { // a refusal is not remembered as an answer
		got := v.bearer(t, s.orders.program, "GET", "/orders", token)
		got.want(t, http.StatusForbidden, "")
		if c := got.header.Get("WWW-Authenticate"); c != `Bearer error="insufficient_scope"` {
			t.Errorf("the challenge is %q", c)
		}
	}
	page := v.get(t, "/orders")
	page.says(t, http.StatusForbidden, "Your consent is missing")
	page.says(t, http.StatusForbidden, html.EscapeString(`Bearer error="insufficient_scope"`))
	page.says(t, http.StatusForbidden, "Allow it")
	v.get(t, "/api/chain").want(t, http.StatusForbidden, "consent_required")
	v.post(t, "/allow", nil).says(t, http.StatusOK, "Orders may call Prices")
	checkHops(t, v.chain(t).Hops, "ada")
}

// TestSecondAPIDown: an outage is an outage, whichever way the API is gone, and
// nobody is signed out because of it.
func TestSecondAPIDown(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]bool{"it is stopped": false, "it hangs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			v := s.signedIn(t, "ada")
			v.chain(t)
			addr := s.prices.server.listener.Addr().String()
			if err := s.prices.server.stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if hangs {
				l, err := net.Listen("tcp", addr) // takes connections, and never answers
				if err != nil {
					t.Skip("somebody else has taken the address:", err)
				}
				t.Cleanup(func() { _ = l.Close() })
			}
			began := time.Now()
			page := v.get(t, "/orders")
			page.says(t, http.StatusServiceUnavailable, "Prices, does not answer")
			if took := time.Since(began); took > 2*pricesTimeout || page.header.Get("Retry-After") == "" {
				t.Errorf("it took %s, and says to try again in %q", took, page.header.Get("Retry-After"))
			}
			if !hangs {
				v.get(t, "/api/chain").want(t, http.StatusServiceUnavailable, "prices_unavailable")
			}
			if got := v.get(t, "/"); !strings.Contains(got.body, "Hello, ada") {
				t.Error("the user is signed out")
			}
		})
	}
}

func TestFirstAPIDown(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.signedIn(t, "ada")
	if err := s.orders.server.stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.get(t, "/api/chain").want(t, http.StatusServiceUnavailable, "orders_unavailable")
	// Whoever is not signed out everywhere is not told so.
	v.post(t, "/signout", url.Values{"everywhere": {"1"}}).says(t, http.StatusServiceUnavailable, "Orders, does not answer")
	v.get(t, "/").says(t, http.StatusOK, "Hello, ada")
	v.post(t, "/signout", nil).says(t, http.StatusOK, "You are signed out.")
}

// TestServerDown: without the identity server, what is cached is used, and what is
// not is an outage.
func TestServerDown(t *testing.T) {
	t.Parallel()
	s := open(t)
	ada, bob := s.signedIn(t, "ada"), s.signedIn(t, "bob")
	ada.chain(t)
	for _, f := range []idp.Fault{{Status: http.StatusServiceUnavailable}, {Kind: "garbage"}, {Kind: "hang"}} {
		f.Endpoint = "token"
		s.fault(t, f)
		checkHops(t, ada.chain(t).Hops, "ada")
		bob.get(t, "/api/chain").want(t, http.StatusServiceUnavailable, "orders_unavailable")
		bob.get(t, "/").says(t, http.StatusOK, "Hello, bob")
	}
	s.issuer.server.ClearFault("token")
	// The request that hung goes on when its caller has given up, and others may still
	// wait for its answer with it.
	for end := time.Now().Add(5 * time.Second); bob.get(t, "/api/chain").status != http.StatusOK && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	checkHops(t, bob.chain(t).Hops, "bob")
}

// TestNoKeys: an API that cannot tell whether a token is good does not say that it
// is not.
func TestNoKeys(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.signedIn(t, "ada") // the web app has the keys, and the APIs have not asked for them yet
	s.fault(t, idp.Fault{Endpoint: "keys", Status: http.StatusServiceUnavailable})
	got := v.bearer(t, s.orders.program, "GET", "/orders", "Bearer "+s.token(t, ordersScope))
	got.want(t, http.StatusServiceUnavailable, "")
	if got.header.Get("Retry-After") == "" || got.header.Get("WWW-Authenticate") != "" {
		t.Errorf("the headers are %v", got.header)
	}
	v.get(t, "/api/chain").want(t, http.StatusServiceUnavailable, "orders_unavailable")
	s.issuer.server.ClearFault("keys")
	checkHops(t, v.chain(t).Hops, "ada")
}

// TestHostile sends what an attacker would, and checks that it changes nothing.
func TestHostile(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.signedIn(t, "ada")
	cross := http.Header{"Sec-Fetch-Site": {"cross-site"}}
	for name, test := range map[string]struct {
		method, path string
		header       http.Header
		status       int
	}{
		"forged state":        {"GET", "/callback?code=x&state=forged", nil, 400},
		"unknown step":        {"GET", "/signin?step=x", nil, 400},
		"back to elsewhere":   {"GET", "/signin?return_to=//evil.test", nil, 400},
		"endless hint":        {"GET", "/signin?login_hint=" + strings.Repeat("a", 300), nil, 400},
		"demand by link":      {"GET", "/demand", nil, 405},
		"demand cross-site":   {"POST", "/demand", cross, 403},
		"revoke cross-site":   {"POST", "/revoke", cross, 403},
		"sign-out by origin":  {"POST", "/signout", http.Header{"Origin": {"https://evil.test"}}, 403},
		"forged logout token": {"POST", "/backchannel-logout", nil, 400},
		"huge header":         {"GET", "/", http.Header{"X-Long": {strings.Repeat("a", 70_000)}}, 431},
		"no such page":        {"GET", "/nothing", nil, 404},
		"outside of static":   {"GET", "/static/../web.go", nil, 404},
	} {
		form := url.Values{}
		if strings.HasPrefix(test.path, "/backchannel") {
			form.Set("logout_token", s.token(t, ordersScope)) // a token of the server's, but no logout token
		}
		got := v.stays().do(t, test.method, test.path, form, test.header)
		if got.status != test.status || got.header.Get("Location") != "" {
			t.Errorf("%s: got status %d, want %d", name, got.status, test.status)
		}
		if test.status != 431 && got.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: the answer has no policy", name)
		}
	}
	v.get(t, "/").says(t, http.StatusOK, "Hello, ada")
	if got := v.do(t, http.MethodPost, "/signout", url.Values{"everywhere": {strings.Repeat("1", maxBodyBytes)}}, nil); got.status != 400 {
		t.Errorf("a huge form: status %d", got.status)
	}
	// The page of nobody has nothing to say about anybody.
	s.visitor(t).get(t, "/api/chain").want(t, http.StatusUnauthorized, "sign_in_required")
	s.visitor(t).post(t, "/revoke", nil).says(t, http.StatusUnauthorized, "Please sign in first.")
	// Whoever signs in there comes back to it.
	s.visitor(t).get(t, "/orders").says(t, http.StatusUnauthorized, `name="return_to" value="/orders"`)
	if back := s.visitor(t).signIn(t, "/signin?login_hint=eve&return_to=/orders", "eve"); back.path != "/orders" {
		t.Errorf("they come back to %q", back.path)
	}
	v.chain(t)
}
