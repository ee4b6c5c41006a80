package idp_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

func withDevice() *idp.Options {
	o := withAPIs()
	o.DeviceInterval = time.Second
	o.Clients = append(o.Clients, idp.Client{ID: "tv", Public: true}, idp.Client{ID: "<b>tv", Public: true})
	return o
}

func deviceEndpoint(s *idp.Server, e endpoints) string {
	if e == entra(s) {
		return e.base + "/devicecode"
	}
	return e.base + "/device_authorization"
}

// startDevice asks for a device code and returns it with its user code.
func startDevice(t *testing.T, s *idp.Server, e endpoints, scope ...string) (deviceCode, userCode string) {
	t.Helper()
	a := post(t, deviceEndpoint(s, e), url.Values{"client_id": {"tv"}, "scope": {strings.Join(scope, " ")}})
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	body := a.json(t)
	return body["device_code"].(string), body["user_code"].(string)
}

func pollForm(deviceCode string) url.Values {
	return url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {deviceCode}, "client_id": {"tv"},
	}
}

// TestDeviceClient runs the flow with the libraries that applications use.
func TestDeviceClient(t *testing.T) {
	t.Parallel()
	for name, realm := range map[string]func(*idp.Server) endpoints{"plain": plain, "entra": entra} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := listen(t, withDevice())
			e := realm(s)
			ctx := oidc.ClientContext(t.Context(), browser(t))
			provider, err := oidc.NewProvider(ctx, e.issuer)
			if err != nil {
				t.Fatal(err)
			}
			conf := &oauth2.Config{ClientID: "tv", Endpoint: provider.Endpoint(), Scopes: []string{"openid", "offline_access", apiScope}}
			conf.Endpoint.AuthStyle = oauth2.AuthStyleInParams // else it tries Basic first
			da, err := conf.DeviceAuth(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if da.Interval != 1 || time.Until(da.Expiry) > 15*time.Minute || time.Until(da.Expiry) < 14*time.Minute || da.VerificationURI != s.URL()+"/device" {
				t.Errorf("interval %d, expiry %s, URI %s", da.Interval, da.Expiry, da.VerificationURI)
			}
			if !regexp.MustCompile(`^[B-Z]{4}-[B-Z]{4}$`).MatchString(da.UserCode) {
				t.Error("the user code has another form")
			}
			form := newPerson(t).do(t, http.MethodGet, da.VerificationURIComplete, nil)
			if !strings.Contains(form.body, `value="`+da.UserCode+`"`) || !strings.Contains(form.body, "tv wants") {
				t.Error("the page does not show the code and the client")
			}
			answered := post(t, da.VerificationURI, url.Values{
				"user_code": {strings.ToLower(strings.ReplaceAll(da.UserCode, "-", " "))}, "username": {"Anna"}, "answer": {"approve"},
			})
			if answered.status != http.StatusOK || !strings.Contains(answered.body, "Signed in") {
				t.Fatalf("%d %s", answered.status, answered.body)
			}
			token, err := conf.DeviceAccessToken(ctx, da)
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := token.Extra("id_token").(string)
			id, err := provider.Verifier(&oidc.Config{ClientID: "tv"}).Verify(ctx, raw)
			if err != nil {
				t.Fatal(err)
			}
			if id.Nonce != "" || payload(t, raw)["name"] != "Anna" || payload(t, raw)["sid"] == nil {
				t.Errorf("claims %v", payload(t, raw))
			}
			token.Expiry = time.Now().Add(-time.Hour)
			fresh, err := conf.TokenSource(ctx, token).Token()
			if err != nil {
				t.Fatal(err)
			}
			if a := callAPI(t, s, fresh.AccessToken); a.status != http.StatusOK {
				t.Errorf("API: %d %s", a.status, a.body)
			}
			if st := s.Stats(); st.SignIns != 1 || st.TokenRequests.DeviceCode != 1 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestDevicePolling(t *testing.T) {
	t.Parallel()
	s := listen(t, withDevice())
	for name, tt := range map[string]struct {
		e                endpoints
		denied, unknown  string
		acceptsShortName bool
	}{
		"plain": {plain(s), "access_denied", "invalid_grant", false},
		"entra": {entra(s), "authorization_declined", "bad_verification_code", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := func(form url.Values, code string) {
				t.Helper()
				wantError(t, post(t, tt.e.token(), form), http.StatusBadRequest, code)
			}
			code, user := startDevice(t, s, tt.e, "openid", apiScope)
			want(pollForm(code), "authorization_pending")
			want(pollForm(code), "slow_down")
			want(pollForm("x"), tt.unknown)
			want(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"tv"}}, "invalid_request")
			other := withClient(pollForm(code))
			want(other, tt.unknown)
			if err := s.ApproveDevice(user, "anna"); err != nil {
				t.Fatal(err)
			}
			tok := mustTokens(t, post(t, tt.e.token(), pollForm(code)))
			if tok.RefreshToken != "" {
				t.Error("a refresh token without offline_access")
			}
			if c := payload(t, tok.AccessToken); c["azp"] != "tv" || c["aud"] != idp.DefaultAudience || c["iss"] != tt.e.issuer {
				t.Errorf("claims %v", c)
			}
			want(pollForm(code), tt.unknown) // once
			if a := callAPI(t, s, tok.AccessToken); a.status != http.StatusOK {
				t.Errorf("API: %d", a.status)
			}

			code, user = startDevice(t, s, tt.e, "openid")
			if a := post(t, s.URL()+"/control/device/deny?user_code="+user, nil); a.status != http.StatusNoContent {
				t.Fatalf("%d %s", a.status, a.body)
			}
			want(pollForm(code), tt.denied)
			if s.ApproveDevice(user, "anna") == nil || s.DenyDevice(user) == nil {
				t.Error("a code was answered twice")
			}

			code, user = startDevice(t, s, tt.e, "openid")
			a := post(t, s.URL()+"/control/device/approve?"+url.Values{"user_code": {user}, "user": {"anna"}}.Encode(), nil)
			if a.status != http.StatusNoContent {
				t.Fatalf("%d %s", a.status, a.body)
			}
			short := pollForm(code)
			short.Set("grant_type", "device_code")
			short.Set("scope", "openid offline_access "+apiScope)
			if !tt.acceptsShortName {
				want(short, "unsupported_grant_type")
			} else if tok := mustTokens(t, post(t, tt.e.token(), short)); tok.RefreshToken == "" {
				t.Error("no refresh token")
			}
			if s.ApproveDevice(user, "") == nil {
				t.Error("no error for an empty name")
			}
		})
	}
}

// TestDeviceCodeBelongsToItsIssuer polls at the other one.
func TestDeviceCodeBelongsToItsIssuer(t *testing.T) {
	t.Parallel()
	s := listen(t, withDevice())
	code, user := startDevice(t, s, plain(s), "openid")
	if err := s.ApproveDevice(user, "anna"); err != nil {
		t.Fatal(err)
	}
	wantError(t, post(t, entra(s).token(), pollForm(code)), http.StatusBadRequest, "bad_verification_code")
	mustTokens(t, post(t, plain(s).token(), pollForm(code)))
}

func TestDeviceSignInIsRevoked(t *testing.T) {
	t.Parallel()
	s := listen(t, withDevice())
	e := entra(s)
	code, user := startDevice(t, s, e, "openid", "offline_access", apiScope)
	if err := s.ApproveDevice(user, "anna"); err != nil {
		t.Fatal(err)
	}
	tok := mustTokens(t, post(t, e.token(), pollForm(code)))
	if n, err := s.RevokeUser("anna"); n != 1 || err != nil {
		t.Errorf("got %d, %v, want 1 family", n, err)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tok.RefreshToken}, "client_id": {"tv"}}
	wantError(t, post(t, e.token(), form), http.StatusBadRequest, "invalid_grant")
}

func TestDeviceAnswersDemands(t *testing.T) {
	t.Parallel()
	s := listen(t, withDevice())
	e := plain(s)
	tok := signIn(t, e, "anna")
	if err := s.RequireInteraction("anna", `{"x":null}`); err != nil {
		t.Fatal(err)
	}
	a := post(t, deviceEndpoint(s, e), url.Values{"client_id": {"tv"}, "claims": {`{"x":null}`}})
	if err := s.ApproveDevice(a.json(t)["user_code"].(string), "anna"); err != nil {
		t.Fatal(err)
	}
	mustTokens(t, post(t, e.token(), refreshForm(tok.RefreshToken)))
}

func TestDeviceRequestsRefused(t *testing.T) {
	t.Parallel()
	s := listen(t, withDevice())
	for name, tt := range map[string]struct {
		form   url.Values
		status int
		code   string
	}{
		"no client":      {url.Values{}, 401, "invalid_client"},
		"unknown client": {url.Values{"client_id": {"x"}}, 401, "invalid_client"},
		"no secret":      {url.Values{"client_id": {"first-api"}}, 401, "invalid_client"},
		"bad scope":      {url.Values{"client_id": {"tv"}, "scope": {"a\"b"}}, 400, "invalid_scope"},
		"bad resource":   {url.Values{"client_id": {"tv"}, "resource": {"x"}}, 400, "invalid_target"},
		"bad claims":     {url.Values{"client_id": {"tv"}, "claims": {"x"}}, 400, "invalid_request"},
		"two clients":    {url.Values{"client_id": {"tv", "tv"}}, 400, "invalid_request"},
	} {
		wantError(t, post(t, s.URL()+"/device_authorization", tt.form), tt.status, tt.code)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if a := post(t, deviceEndpoint(s, plain(s)), as("first-api", url.Values{})); a.status != http.StatusOK {
		t.Errorf("a confidential client: %d %s", a.status, a.body)
	}
}

// TestPublicClient covers what a client without a secret may do.
func TestPublicClient(t *testing.T) {
	t.Parallel()
	o := withDevice()
	o.Clients = append(o.Clients, idp.Client{ID: "spa", Public: true, RedirectURIs: []string{callback}})
	s := listen(t, o)
	e := entra(s)
	q := authorizeQuery()
	q.Set("client_id", "spa")
	public := func(form url.Values) url.Values {
		form.Set("client_id", "spa")
		form.Del("client_secret")
		return form
	}
	tok := mustTokens(t, post(t, e.token(), public(codeForm(getCode(t, e, "anna", q)))))
	tok = mustTokens(t, post(t, e.token(), public(refreshForm(tok.RefreshToken))))
	for name, form := range map[string]url.Values{
		"client credentials": {"grant_type": {"client_credentials"}},
		"on behalf of":       oboForm("first-api", tok.AccessToken, secondScope),
		"token exchange":     exchangeForm("first-api", tok.AccessToken),
	} {
		a := post(t, e.token(), public(form))
		wantError(t, a, http.StatusUnauthorized, "invalid_client")
		if !strings.Contains(a.body, "AADSTS7000218") {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	withSecret := public(refreshForm(tok.RefreshToken))
	withSecret.Set("client_secret", "x")
	wantError(t, post(t, e.token(), withSecret), http.StatusUnauthorized, "invalid_client")
	basic := request(t, http.MethodPost, e.token(), refreshForm(tok.RefreshToken).Encode(), "Content-Type", "application/x-www-form-urlencoded")
	basic.Body, basic.ContentLength = http.NoBody, 0
	basic.SetBasicAuth("spa", "")
	if a := do(t, basic); a.status == http.StatusOK {
		t.Error("a public client authenticated with an empty password")
	}
	if a := post(t, e.base+"/revoke", public(url.Values{"token": {tok.RefreshToken}})); a.status != http.StatusOK {
		t.Errorf("revocation: %d %s", a.status, a.body)
	}
	wantError(t, post(t, e.token(), public(refreshForm(tok.RefreshToken))), http.StatusBadRequest, "invalid_grant")
}

func TestDevicePage(t *testing.T) {
	t.Parallel()
	s := listen(t, withDevice())
	const attack = `"><script>alert(1)</script>`
	empty := get(t, s.URL()+"/device")
	for _, want := range []string{`<label for="user_code">`, `<label for="username">`, `maxlength="64"`, "color-scheme: light dark", "autofocus"} {
		if !strings.Contains(empty.body, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	if strings.Contains(empty.body, `role="alert"`) || strings.Count(empty.body, "autofocus") != 1 {
		t.Error("the empty page shows an error, or has no one focus")
	}
	for name, a := range map[string]answer{
		"query": get(t, s.URL()+"/device?user_code="+url.QueryEscape(attack)),
		"form":  post(t, s.URL()+"/device", url.Values{"user_code": {attack}, "username": {attack}}),
		"huge":  post(t, s.URL()+"/device", url.Values{"user_code": {strings.Repeat("B", 60_000)}, "username": {"anna"}}),
	} {
		if strings.Contains(a.body, "<script") || !strings.Contains(a.body, `role="alert"`) {
			t.Errorf("%s: input reaches the page as markup, or there is no error", name)
		}
	}
	a := post(t, s.URL()+"/device_authorization", url.Values{"client_id": {"<b>tv"}})
	user := a.json(t)["user_code"].(string)
	if page := get(t, s.URL()+"/device?user_code="+user); strings.Contains(page.body, "<b>") || !strings.Contains(page.body, "&lt;b&gt;tv wants") {
		t.Error("the client's ID reaches the page as markup, or not at all")
	}

	code, user := startDevice(t, s, plain(s), "openid")
	if a := post(t, s.URL()+"/device", url.Values{"user_code": {user}, "username": {"a\x00b"}}); a.status != http.StatusBadRequest || !strings.Contains(a.body, `role="alert"`) {
		t.Errorf("bad name: %d", a.status)
	}
	if a := post(t, s.URL()+"/device", url.Values{"user_code": {user}, "username": {"anna"}}, "Sec-Fetch-Site", "cross-site"); a.status != http.StatusForbidden {
		t.Errorf("cross-site form: %d, want 403", a.status)
	}
	wantError(t, post(t, plain(s).token(), pollForm(code)), http.StatusBadRequest, "authorization_pending") // still
	if a := post(t, s.URL()+"/device", url.Values{"user_code": {user}, "answer": {"deny"}}); a.status != http.StatusOK {
		t.Errorf("refusal: %d", a.status)
	}
	wantError(t, post(t, plain(s).token(), pollForm(code)), http.StatusBadRequest, "access_denied")
	if a := get(t, s.URL()+"/device?user_code="+user); !strings.Contains(a.body, `role="alert"`) {
		t.Error("a code that was answered still waits")
	}
}
