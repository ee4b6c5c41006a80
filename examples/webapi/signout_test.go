package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// TestSignOutEverywhere: what the API has obtained on behalf of the user goes along
// with what the web app has, and another user's stays.
func TestSignOutEverywhere(t *testing.T) {
	t.Parallel()
	s := open(t)
	ada := s.signedIn(t, "ada")
	token := "Bearer " + s.token(t, ordersScope)
	other := s.signedIn(t, "ada") // another browser, and another token of the API's
	bob := s.signedIn(t, "bob")
	v := s.visitor(t)
	v.bearer(t, s.orders.program, "GET", "/orders", token).want(t, http.StatusOK, "")
	other.chain(t)
	bob.chain(t)
	if now, _ := s.stored[s.orders.program].left(t); now != 3 {
		t.Fatalf("the API keeps %d records, want two of ada's and one of bob's", now)
	}
	asked := s.asked()
	ada.post(t, "/signout", url.Values{"everywhere": {"1"}}).says(t, http.StatusOK, "You are signed out.")
	for name, p := range map[string]*program{"web app": s.web.program, "API": s.orders.program} {
		if now, _ := s.stored[p].left(t); now != 1 {
			t.Errorf("the %s keeps %d records, want bob's", name, now)
		}
	}
	got := v.bearer(t, s.orders.program, "GET", "/orders", token)
	got.want(t, http.StatusUnauthorized, "")
	if c := got.header.Get("WWW-Authenticate"); !strings.Contains(c, `error="invalid_token"`) {
		t.Errorf("the challenge is %q", c)
	}
	if s.asked() != asked {
		t.Error("the server was asked on behalf of a user who has signed out")
	}
	other.get(t, "/api/chain").want(t, http.StatusUnauthorized, "sign_in_required")
	checkHops(t, bob.chain(t).Hops, "bob")
	checkHops(t, s.signedIn(t, "ada").chain(t).Hops, "ada") // at once
}

// TestSignOutEverywhereUntold: with no token to be had for it, the API cannot be told,
// and the user is.
func TestSignOutEverywhereUntold(t *testing.T) {
	t.Parallel()
	s := open(t, "-token-lifetime=2s")
	v := s.signedIn(t, "ada")
	v.chain(t)
	s.fault(t, idp.Fault{Endpoint: "token", Status: http.StatusServiceUnavailable})
	time.Sleep(3100 * time.Millisecond) // the web app's token ends
	v.post(t, "/signout", url.Values{"everywhere": {"1"}}).says(t, http.StatusOK, "Orders could not be told")
	if now, _ := s.stored[s.web.program].left(t); now != 0 {
		t.Error("the web app has tokens still")
	}
	if now, _ := s.stored[s.orders.program].left(t); now != 0 {
		t.Error("what the API had has not ended with the token")
	}
}

// TestRevoked: the identity server ends the user's sign-in, and tells the web app.
func TestRevoked(t *testing.T) {
	t.Parallel()
	s := open(t)
	ada, bob := s.signedIn(t, "ada"), s.signedIn(t, "bob")
	other := s.signedIn(t, "ada")
	ada.chain(t)
	ada.post(t, "/revoke", nil).says(t, http.StatusUnauthorized, "by the identity server")
	if stats := s.issuer.server.Stats(); stats.BackChannelLogouts == 0 || stats.BackChannelLogoutsFailed != 0 {
		t.Errorf("%d logout tokens were accepted, and %d not", stats.BackChannelLogouts, stats.BackChannelLogoutsFailed)
	}
	other.get(t, "/api/chain").want(t, http.StatusUnauthorized, "sign_in_required")
	bob.chain(t)
	ada.get(t, "/").says(t, http.StatusOK, "<h1 tabindex=\"-1\">Sign in</h1>") // the session has ended: nothing goes round in circles
}

// TestRevokedUntold: of a server that tells nobody, the API hears when it asks, and
// its caller from the API.
func TestRevokedUntold(t *testing.T) {
	t.Parallel()
	s := open(t)
	two := open(t, "-issuer="+s.issuer.url) // the server does not know where this one is
	v := two.signedIn(t, "ada")
	token := "Bearer " + two.token(t, ordersScope)
	if _, err := s.issuer.server.RevokeUser("ada"); err != nil {
		t.Fatal(err)
	}
	got := v.bearer(t, two.orders.program, "GET", "/orders", token)
	got.want(t, http.StatusUnauthorized, "")
	if c := got.header.Get("WWW-Authenticate"); c != `Bearer error="invalid_token"` {
		t.Errorf("the challenge is %q", c)
	}
	v.get(t, "/orders").says(t, http.StatusUnauthorized, "The identity server has ended your sign-in")
	v.post(t, "/signout", url.Values{"everywhere": {"1"}}).says(t, http.StatusOK, "signed out")
}
