package idp_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

const (
	firstScope  = "api://first-api/Data.Read"
	secondScope = "api://second-api/Data.Read"
)

// withAPIs are the options of a server with a web app and two APIs.
func withAPIs() *idp.Options {
	return &idp.Options{Clients: []idp.Client{
		{ID: idp.DefaultClientID, Secret: idp.DefaultClientSecret, RedirectURIs: []string{callback},
			PostLogoutRedirectURIs: []string{"http://localhost:3000/"}},
		{ID: "first-api", Secret: "first-secret", Audiences: []string{"api://first-api", "https://first.test"}},
		{ID: "second-api", Secret: "second-secret", Audiences: []string{"api://second-api"}},
	}}
}

// as sets the credentials of one of the APIs.
func as(api string, form url.Values) url.Values {
	form.Set("client_id", api)
	form.Set("client_secret", strings.TrimSuffix(api, "-api")+"-secret")
	return form
}

func oboForm(api, assertion string, scope ...string) url.Values {
	return as(api, url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion},
		"requested_token_use": {"on_behalf_of"}, "scope": {strings.Join(scope, " ")},
	})
}

func TestOnBehalfOf(t *testing.T) {
	t.Parallel()
	s := listen(t, withAPIs())
	for name, e := range map[string]endpoints{"plain": plain(s), "entra": entra(s)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := signIn(t, e, "anna", "openid", "offline_access", firstScope)
			first := mustTokens(t, post(t, e.token(), oboForm("first-api", user.AccessToken, secondScope)))
			c, was := payload(t, first.AccessToken), payload(t, user.AccessToken)
			if c["aud"] != "api://second-api" || c["scp"] != "Data.Read" || c["azp"] != "first-api" || c["iss"] != e.issuer {
				t.Errorf("claims %v", c)
			}
			if c["oid"] != was["oid"] || c["preferred_username"] != was["preferred_username"] || c["sub"] == was["sub"] {
				t.Errorf("claims %v, of a token with %v", c, was)
			}
			if first.RefreshToken != "" || first.IDToken != "" || first.Scope != secondScope {
				t.Errorf("refresh token %v, ID token %v, scope %q", first.RefreshToken != "", first.IDToken != "", first.Scope)
			}
			if hasInfo := first.ClientInfo != ""; hasInfo != (name == "entra") {
				t.Errorf("client_info present: %v", hasInfo)
			}

			// The second API goes on from what it was called with.
			second := mustTokens(t, post(t, e.token(), oboForm("second-api", first.AccessToken, apiScope, "openid")))
			if a := callAPI(t, s, second.AccessToken); a.status != http.StatusOK || a.json(t)["name"] != "anna" {
				t.Errorf("API: %d %s", a.status, a.body)
			}
			id, own := payload(t, second.IDToken), payload(t, user.IDToken)
			if id["aud"] != "second-api" || id["sid"] != own["sid"] || id["auth_time"] != own["auth_time"] || id["nonce"] != nil {
				t.Errorf("ID token %v, want the session of %v", id, own)
			}
		})
	}
}

func TestOnBehalfOfAudiences(t *testing.T) {
	t.Parallel()
	s := listen(t, withAPIs())
	tok := signIn(t, plain(s), "anna")
	for resource, want := range map[string]int{
		"api://first-api": 200, "https://first.test": 200, "https://first.test/": 400, "api://First-API": 400,
		"api://second-api": 400, "api://coatcheck-example": 400,
	} {
		form := refreshForm(tok.RefreshToken)
		form.Set("resource", resource)
		tok = mustTokens(t, post(t, plain(s).token(), form))
		if a := post(t, plain(s).token(), oboForm("first-api", tok.AccessToken, secondScope)); a.status != want {
			t.Errorf("%s: %d %s, want %d", resource, a.status, a.body, want)
		}
	}
}

func TestOnBehalfOfRefuses(t *testing.T) {
	t.Parallel()
	s, stranger := listen(t, withAPIs()), listen(t, withAPIs())
	e := entra(s)
	tok := signIn(t, e, "anna", "openid", firstScope)
	app := mustTokens(t, post(t, e.token(), withClient(url.Values{"grant_type": {"client_credentials"}, "scope": {firstScope}})))
	revoked := signIn(t, e, "bert", "openid", firstScope)
	if _, err := s.RevokeUser("bert"); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(tok.AccessToken, ".")
	tests := []struct {
		name, param, value string
		status             int
		code               string
		number             float64 // 0: not Entra's
	}{
		{"no assertion", "assertion", "", 400, "invalid_request", 0},
		{"no use", "requested_token_use", "", 400, "invalid_request", 0},
		{"another use", "requested_token_use", "x", 400, "invalid_request", 0},
		{"no scope", "scope", "", 400, "invalid_request", 0},
		{"bad scope", "scope", "a\"b", 400, "invalid_scope", 0},
		{"bad resource", "resource", "x", 400, "invalid_target", 0},
		{"bad claims", "claims", "[]", 400, "invalid_request", 0},
		{"no secret", "client_secret", "", 401, "invalid_client", 7000215},
		{"garbage", "assertion", "x.y.z", 400, "invalid_grant", 50013},
		{"changed signature", "assertion", parts[0] + "." + parts[1] + "." + parts[2][:20], 400, "invalid_grant", 50013},
		{"algorithm none", "assertion", "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + parts[1] + ".", 400, "invalid_grant", 50013},
		{"ID token", "assertion", tok.IDToken, 400, "invalid_grant", 50013},
		{"other server", "assertion", signIn(t, entra(stranger), "anna", "openid", firstScope).AccessToken, 400, "invalid_grant", 50013},
		{"other issuer", "assertion", signIn(t, plain(s), "anna", "openid", firstScope).AccessToken, 400, "invalid_grant", 50013},
		{"other audience", "assertion", signIn(t, e, "anna", "openid", secondScope).AccessToken, 400, "invalid_grant", 500131},
		{"application's", "assertion", app.AccessToken, 400, "invalid_grant", 7000114},
		{"revoked", "assertion", revoked.AccessToken, 400, "invalid_grant", 50173},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			form := oboForm("first-api", tok.AccessToken, secondScope)
			if form.Del(tt.param); tt.value != "" {
				form.Set(tt.param, tt.value)
			}
			a := post(t, e.token(), form)
			wantError(t, a, tt.status, tt.code)
			if codes, _ := a.json(t)["error_codes"].([]any); tt.number != 0 && (len(codes) != 1 || codes[0] != tt.number) {
				t.Errorf("error_codes %v, want %v", codes, tt.number)
			}
		})
	}
	mustTokens(t, post(t, e.token(), oboForm("first-api", tok.AccessToken, secondScope))) // nothing of this spent it
	form := oboForm("first-api", tok.AccessToken, secondScope)
	form.Set("claims", `{"access_token":{}}`)
	mustTokens(t, post(t, e.token(), form))
}

func TestOnBehalfOfExpiredAssertion(t *testing.T) {
	t.Parallel()
	o := withAPIs()
	o.TokenLifetime = time.Second
	s := listen(t, o)
	tok := signIn(t, entra(s), "anna", "openid", firstScope)
	time.Sleep(2100 * time.Millisecond) // exp is in whole seconds, rounded up
	a := post(t, entra(s).token(), oboForm("first-api", tok.AccessToken, secondScope))
	wantError(t, a, http.StatusBadRequest, "invalid_grant")
	if !strings.Contains(a.body, "AADSTS500133") {
		t.Errorf("not Entra's error: %s", a.body)
	}
}

func TestOnBehalfOfInteraction(t *testing.T) {
	t.Parallel()
	const demanded = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	s := listen(t, withAPIs())
	e := entra(s)
	tok := signIn(t, e, "anna", "openid", firstScope)
	api := mustTokens(t, post(t, e.token(), oboForm("first-api", tok.AccessToken, secondScope, "offline_access")))
	if err := s.RequireInteraction("anna", demanded); err != nil {
		t.Fatal(err)
	}
	for _, form := range []url.Values{
		oboForm("first-api", tok.AccessToken, secondScope), as("first-api", refreshForm(api.RefreshToken)),
	} {
		a := post(t, e.token(), form)
		wantError(t, a, http.StatusBadRequest, "interaction_required")
		if body := a.json(t); body["claims"] != demanded || body["suberror"] != "basic_action" {
			t.Errorf("body %v", body)
		}
	}
	q := authorizeQuery()
	q.Set("claims", demanded)
	getCode(t, e, "anna", q)
	mustTokens(t, post(t, e.token(), oboForm("first-api", tok.AccessToken, secondScope)))
	mustTokens(t, post(t, e.token(), as("first-api", refreshForm(api.RefreshToken))))
}

func TestOnBehalfOfRefreshToken(t *testing.T) {
	t.Parallel()
	s := listen(t, withAPIs())
	e := entra(s)
	start := func() (user, api tokens) {
		user = signIn(t, e, "anna", "openid", "offline_access", firstScope)
		api = mustTokens(t, post(t, e.token(), oboForm("first-api", user.AccessToken, secondScope, "offline_access")))
		if api.RefreshToken == "" || api.Scope != secondScope {
			t.Fatalf("refresh token %v, scope %q", api.RefreshToken != "", api.Scope)
		}
		return user, api
	}
	refused := func(t *testing.T, form url.Values) {
		t.Helper()
		wantError(t, post(t, e.token(), form), http.StatusBadRequest, "invalid_grant")
	}

	t.Run("rotates", func(t *testing.T) {
		user, api := start()
		next := mustTokens(t, post(t, e.token(), as("first-api", refreshForm(api.RefreshToken))))
		if c := payload(t, next.AccessToken); c["aud"] != "api://second-api" || c["azp"] != "first-api" {
			t.Errorf("claims %v", c)
		}
		refused(t, refreshForm(next.RefreshToken)) // another client's
		form := as("first-api", refreshForm(next.RefreshToken))
		form.Set("scope", apiScope)
		next = mustTokens(t, post(t, e.token(), form)) // one refresh token, many audiences
		if a := callAPI(t, s, next.AccessToken); a.status != http.StatusOK {
			t.Errorf("API: %d", a.status)
		}
		mustTokens(t, post(t, e.token(), refreshForm(user.RefreshToken)))
	})
	t.Run("reuse ends the sign-in", func(t *testing.T) {
		user, api := start()
		_, other := start()
		next := mustTokens(t, post(t, e.token(), as("first-api", refreshForm(api.RefreshToken))))
		before := s.Stats()
		refused(t, as("first-api", refreshForm(api.RefreshToken)))
		refused(t, as("first-api", refreshForm(next.RefreshToken)))
		refused(t, refreshForm(user.RefreshToken))
		mustTokens(t, post(t, e.token(), as("first-api", refreshForm(other.RefreshToken))))
		after := s.Stats()
		if after.RefreshReused != before.RefreshReused+1 || after.FamiliesRevoked != before.FamiliesRevoked+1 {
			t.Errorf("stats %+v after %+v", after, before)
		}
	})
	t.Run("ends with the user", func(t *testing.T) {
		_, api := start()
		deep := mustTokens(t, post(t, e.token(), oboForm("second-api", api.AccessToken, apiScope, "offline_access")))
		before := s.Stats().FamiliesRevoked
		n, err := s.RevokeUser("anna")
		if err != nil || n == 0 || s.Stats().FamiliesRevoked != before+int64(n) {
			t.Errorf("got %d, %v", n, err)
		}
		refused(t, as("first-api", refreshForm(api.RefreshToken)))
		refused(t, as("second-api", refreshForm(deep.RefreshToken)))
		refused(t, oboForm("second-api", api.AccessToken, apiScope))
		if a := callAPI(t, s, deep.AccessToken); a.status != http.StatusUnauthorized {
			t.Errorf("API: %d, want 401", a.status)
		}
	})
	t.Run("fault", func(t *testing.T) {
		user, _ := start()
		fault(t, s, idp.Fault{Endpoint: "token", Kind: "no_refresh_token"})
		api := mustTokens(t, post(t, e.token(), oboForm("first-api", user.AccessToken, secondScope, "offline_access")))
		if api.RefreshToken != "" {
			t.Error("there is a refresh token")
		}
	})
}

func TestRevokingWhatAnAPIHolds(t *testing.T) {
	t.Parallel()
	s := listen(t, withAPIs())
	e := plain(s)
	user := signIn(t, e, "anna", "openid", "offline_access", firstScope)
	short := mustTokens(t, post(t, e.token(), oboForm("first-api", user.AccessToken, apiScope)))
	long := mustTokens(t, post(t, e.token(), oboForm("first-api", user.AccessToken, apiScope, "offline_access")))
	deep := mustTokens(t, post(t, e.token(), oboForm("first-api", user.AccessToken, secondScope, "offline_access")))
	revoke := func(form url.Values, token string) answer {
		form.Set("token", token)
		return post(t, e.base+"/revoke", form)
	}
	wantError(t, revoke(as("first-api", url.Values{}), short.AccessToken), http.StatusBadRequest, "unsupported_token_type")
	wantError(t, revoke(withClient(url.Values{}), short.AccessToken), http.StatusBadRequest, "invalid_grant")
	wantError(t, revoke(as("first-api", url.Values{}), user.AccessToken), http.StatusBadRequest, "invalid_grant")
	if a := revoke(as("first-api", url.Values{}), long.RefreshToken); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	wantError(t, post(t, e.token(), as("first-api", refreshForm(long.RefreshToken))), http.StatusBadRequest, "invalid_grant")
	for name, want := range map[string]struct {
		token  string
		status int
	}{"the branch's": {long.AccessToken, 401}, "one without a branch": {short.AccessToken, 200}} {
		if a := callAPI(t, s, want.token); a.status != want.status {
			t.Errorf("access token, %s: %d, want %d", name, a.status, want.status)
		}
	}
	mustTokens(t, post(t, e.token(), refreshForm(user.RefreshToken))) // the sign-in goes on
	mustTokens(t, post(t, e.token(), as("first-api", refreshForm(deep.RefreshToken))))
	if got := s.Stats(); got.FamiliesRevoked != 0 || got.Revocations != 1 {
		t.Errorf("stats %+v", got)
	}
	if a := revoke(withClient(url.Values{}), user.AccessToken); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	wantError(t, post(t, e.token(), as("first-api", refreshForm(deep.RefreshToken))), http.StatusBadRequest, "invalid_grant")
}
