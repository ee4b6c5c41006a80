package idp_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const (
	accessTokenType = "urn:ietf:params:oauth:token-type:access_token"
	jwtType         = "urn:ietf:params:oauth:token-type:jwt"
)

func exchangeForm(api, subject string) url.Values {
	return as(api, url.Values{
		"grant_type":    {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token": {subject}, "subject_token_type": {accessTokenType},
	})
}

func TestTokenExchange(t *testing.T) {
	t.Parallel()
	s := listen(t, withAPIs())
	tests := []struct {
		name         string
		change       url.Values
		aud, scp, is string
	}{
		{"scope", url.Values{"scope": {secondScope}}, "api://second-api", "Data.Read", accessTokenType},
		{"audience", url.Values{"audience": {"second-api"}}, "second-api", "", accessTokenType},
		{"audience and scope", url.Values{"audience": {"second-api"}, "scope": {"Read"}}, "second-api", "Read", accessTokenType},
		{"resource", url.Values{"resource": {"api://second-api"}, "scope": {"Read"}}, "api://second-api", "Read", accessTokenType},
		{"audience as resource", url.Values{"audience": {"api://x"}, "resource": {"api://x"}}, "api://x", "", accessTokenType},
		{"nothing", nil, "api://coatcheck-example", "", accessTokenType},
		{"subject as JWT", url.Values{"subject_token_type": {jwtType}}, "api://coatcheck-example", "", accessTokenType},
		{"access token wanted", url.Values{"requested_token_type": {accessTokenType}}, "api://coatcheck-example", "", accessTokenType},
		{"JWT wanted", url.Values{"requested_token_type": {jwtType}}, "api://coatcheck-example", "", jwtType},
		{"refresh token wanted", url.Values{"scope": {"openid offline_access " + secondScope}}, "api://second-api", "Data.Read", accessTokenType},
	}
	for name, e := range map[string]endpoints{"plain": plain(s), "entra": entra(s)} {
		user := signIn(t, e, "anna", "openid", firstScope)
		for _, tt := range tests {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				form := exchangeForm("first-api", user.AccessToken)
				for k, v := range tt.change {
					form[k] = v
				}
				a := post(t, e.token(), form)
				tok := mustTokens(t, a)
				if got := a.json(t)["issued_token_type"]; got != tt.is {
					t.Errorf("issued_token_type %v, want %s", got, tt.is)
				}
				if tok.RefreshToken != "" || tok.IDToken != "" || tok.TokenType != "Bearer" || tok.ExpiresIn == 0 {
					t.Errorf("refresh token %v, ID token %v, type %q", tok.RefreshToken != "", tok.IDToken != "", tok.TokenType)
				}
				c := payload(t, tok.AccessToken)
				scp, _ := c["scp"].(string)
				if c["aud"] != tt.aud || scp != tt.scp || c["azp"] != "first-api" || c["name"] != "anna" {
					t.Errorf("claims %v, want aud %s and scp %q", c, tt.aud, tt.scp)
				}
			})
		}
	}
}

// TestTokenExchangeChain exchanges what an exchange by client ID brought.
func TestTokenExchangeChain(t *testing.T) {
	t.Parallel()
	s := listen(t, withAPIs())
	e := plain(s)
	user := signIn(t, e, "anna", "openid", firstScope)
	form := exchangeForm("first-api", user.AccessToken)
	form.Set("audience", "second-api")
	first := mustTokens(t, post(t, e.token(), form))
	second := mustTokens(t, post(t, e.token(), exchangeForm("second-api", first.AccessToken)))
	third := mustTokens(t, post(t, e.token(), oboForm("second-api", first.AccessToken, apiScope, "offline_access")))
	for _, tok := range []tokens{second, third} {
		if a := callAPI(t, s, tok.AccessToken); a.status != http.StatusOK {
			t.Errorf("API: %d %s", a.status, a.body)
		}
	}
	if _, err := s.RevokeUser("anna"); err != nil {
		t.Fatal(err)
	}
	if a := callAPI(t, s, second.AccessToken); a.status != http.StatusUnauthorized {
		t.Errorf("API after the user was revoked: %d, want 401", a.status)
	}
}

func TestTokenExchangeRefuses(t *testing.T) {
	t.Parallel()
	s, stranger := listen(t, withAPIs()), listen(t, withAPIs())
	e := plain(s)
	tok := signIn(t, e, "anna", "openid", firstScope)
	app := mustTokens(t, post(t, e.token(), withClient(url.Values{"grant_type": {"client_credentials"}, "scope": {firstScope}})))
	revoked := signIn(t, e, "bert", "openid", firstScope)
	if _, err := s.RevokeUser("bert"); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, param, value string
		status             int
		code               string
	}{
		{"no subject", "subject_token", "", 400, "invalid_request"},
		{"no subject type", "subject_token_type", "", 400, "invalid_request"},
		{"subject as ID token", "subject_token_type", "urn:ietf:params:oauth:token-type:id_token", 400, "invalid_request"},
		{"refresh token wanted", "requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token", 400, "invalid_request"},
		{"actor", "actor_token", tok.AccessToken, 400, "invalid_request"},
		{"actor type", "actor_token_type", accessTokenType, 400, "invalid_request"},
		{"bad scope", "scope", "a\"b", 400, "invalid_scope"},
		{"bad resource", "resource", "x", 400, "invalid_target"},
		{"bad audience", "audience", "a\x00", 400, "invalid_target"},
		{"long audience", "audience", strings.Repeat("a", 2049), 400, "invalid_target"},
		{"no secret", "client_secret", "", 401, "invalid_client"},
		{"garbage", "subject_token", "x.y.z", 400, "invalid_request"},
		{"ID token", "subject_token", tok.IDToken, 400, "invalid_request"},
		{"other server", "subject_token", signIn(t, plain(stranger), "anna", "openid", firstScope).AccessToken, 400, "invalid_request"},
		{"other issuer", "subject_token", signIn(t, entra(s), "anna", "openid", firstScope).AccessToken, 400, "invalid_request"},
		{"other audience", "subject_token", signIn(t, e, "anna", "openid", secondScope).AccessToken, 400, "invalid_request"},
		{"application's", "subject_token", app.AccessToken, 400, "invalid_request"},
		{"revoked", "subject_token", revoked.AccessToken, 400, "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			form := exchangeForm("first-api", tok.AccessToken)
			if form.Del(tt.param); tt.value != "" {
				form.Set(tt.param, tt.value)
			}
			wantError(t, post(t, e.token(), form), tt.status, tt.code)
		})
	}
	form := exchangeForm("first-api", tok.AccessToken)
	form.Set("audience", "api://a")
	form.Set("resource", "api://b")
	wantError(t, post(t, e.token(), form), http.StatusBadRequest, "invalid_target")
	mustTokens(t, post(t, e.token(), exchangeForm("first-api", tok.AccessToken))) // nothing of this spent it
}

func TestTokenExchangeOfExpired(t *testing.T) {
	t.Parallel()
	o := withAPIs()
	o.TokenLifetime = time.Second
	s := listen(t, o)
	tok := signIn(t, plain(s), "anna", "openid", firstScope)
	time.Sleep(2100 * time.Millisecond) // exp is in whole seconds, rounded up
	wantError(t, post(t, plain(s).token(), exchangeForm("first-api", tok.AccessToken)), http.StatusBadRequest, "invalid_request")
}

func TestTokenExchangeInteraction(t *testing.T) {
	t.Parallel()
	s := listen(t, withAPIs())
	tok := signIn(t, entra(s), "anna", "openid", firstScope)
	if err := s.RequireInteraction("anna", `{"x":null}`); err != nil {
		t.Fatal(err)
	}
	a := post(t, entra(s).token(), exchangeForm("first-api", tok.AccessToken))
	wantError(t, a, http.StatusBadRequest, "interaction_required")
	var claims map[string]any
	if err := json.Unmarshal([]byte(a.json(t)["claims"].(string)), &claims); err != nil || len(claims) != 1 {
		t.Errorf("claims %v, %v", a.json(t)["claims"], err)
	}
}
