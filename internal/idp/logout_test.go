package idp_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

func TestLogout(t *testing.T) {
	t.Parallel()
	s, stranger := listen(t, nil), listen(t, nil)
	tok := signIn(t, entra(s), "anna")
	foreign := signIn(t, entra(stranger), "anna")
	const home = "http://localhost:3000/"
	tests := []struct {
		name   string
		params url.Values
		status int
		to     string
	}{
		{"nothing", url.Values{}, 200, ""},
		{"hint only", url.Values{"id_token_hint": {tok.IDToken}}, 200, ""},
		{"hint and URI", url.Values{"id_token_hint": {tok.IDToken}, "post_logout_redirect_uri": {home}}, 303, home},
		{"state", url.Values{"id_token_hint": {tok.IDToken}, "post_logout_redirect_uri": {home}, "state": {"a b"}}, 303, home + "?state=a+b"},
		{"client ID and URI", url.Values{"client_id": {idp.DefaultClientID}, "post_logout_redirect_uri": {home}}, 303, home},
		{"URI alone", url.Values{"post_logout_redirect_uri": {home}}, 400, ""},
		{"foreign URI", url.Values{"id_token_hint": {tok.IDToken}, "post_logout_redirect_uri": {"https://evil.test/"}}, 400, ""},
		{"sign-in's URI", url.Values{"id_token_hint": {tok.IDToken}, "post_logout_redirect_uri": {callback}}, 400, ""},
		{"hint of another server", url.Values{"id_token_hint": {foreign.IDToken}, "post_logout_redirect_uri": {home}}, 400, ""},
		{"access token as hint", url.Values{"id_token_hint": {tok.AccessToken}, "post_logout_redirect_uri": {home}}, 400, ""},
		{"hint and another client", url.Values{"id_token_hint": {tok.IDToken}, "client_id": {"x"}, "post_logout_redirect_uri": {home}}, 400, ""},
		{"unknown client", url.Values{"client_id": {"x"}, "post_logout_redirect_uri": {home}}, 400, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, a := range []answer{
				get(t, entra(s).base+"/logout?"+tt.params.Encode()),
				post(t, plain(s).base+"/logout", tt.params),
			} {
				if a.status != tt.status || a.header.Get("Location") != tt.to {
					t.Errorf("got %d to %q, want %d to %q", a.status, a.header.Get("Location"), tt.status, tt.to)
				}
			}
		})
	}
	if a := get(t, s.URL()+"/logout?%zz"); a.status != http.StatusBadRequest {
		t.Errorf("malformed query: %d, want 400", a.status)
	}
}

func TestLogoutAcceptsExpiredHint(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{TokenLifetime: time.Second})
	tok := signIn(t, plain(s), "anna")
	time.Sleep(1100 * time.Millisecond)
	q := url.Values{"id_token_hint": {tok.IDToken}, "post_logout_redirect_uri": {"http://127.0.0.1:1/"}}
	if a := get(t, s.URL()+"/logout?"+q.Encode()); a.status != http.StatusSeeOther {
		t.Errorf("got %d, want 303", a.status)
	}
}
