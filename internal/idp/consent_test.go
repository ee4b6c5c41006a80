package idp_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

func withConsent() *idp.Options {
	o := withDevice()
	o.Consent = true
	return o
}

// ask submits the login form, with a reply to the consent page if there is one.
func ask(t *testing.T, e endpoints, user, reply string, q url.Values) answer {
	t.Helper()
	form := url.Values{"username": {user}}
	if reply != "" {
		form.Set("consent", reply)
	}
	return post(t, e.base+"/authorize?"+q.Encode(), form)
}

func isConsentPage(a answer) bool {
	return a.status == http.StatusOK && strings.Contains(a.body, `name="consent" value="accept"`)
}

func TestConsentPage(t *testing.T) {
	t.Parallel()
	s := listen(t, withConsent())
	for name, e := range map[string]endpoints{"plain": plain(s), "entra": entra(s)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := "anna " + name
			q := authorizeQuery("openid", "offline_access", firstScope, "Plain", secondScope)
			a := ask(t, e, user, "", q)
			for _, want := range []string{"<li>" + firstScope, "<li>api://first-api/Plain", "<li>" + secondScope, `name="username" value="` + user, idp.DefaultClientID} {
				if !strings.Contains(a.body, want) {
					t.Errorf("the page has no %s", want)
				}
			}
			if !isConsentPage(a) || strings.Contains(a.body, "<li>openid") || strings.Count(a.body, "<li>") != 3 {
				t.Fatalf("no consent page: %d", a.status)
			}
			denied := redirected(t, ask(t, e, user, "deny", q), callback)
			if denied.Get("error") != "access_denied" || denied.Get("state") != "the-state" || denied.Get("iss") != e.issuer || denied.Has("code") {
				t.Errorf("refusal: %v", denied)
			}
			if !isConsentPage(ask(t, e, user, "", q)) || !isConsentPage(ask(t, e, user, "x", q)) {
				t.Error("a refusal, or another answer, counts as consent")
			}
			if a := post(t, e.base+"/authorize?"+q.Encode(), url.Values{"username": {user}, "consent": {"accept"}}, "Sec-Fetch-Site", "cross-site"); a.status != http.StatusForbidden {
				t.Errorf("cross-site form: %d, want 403", a.status)
			}
			if redirected(t, ask(t, e, user, "accept", q), callback).Get("code") == "" {
				t.Error("no code")
			}
			if redirected(t, ask(t, e, strings.ToUpper(user), "", q), callback).Get("code") == "" {
				t.Error("consent is not remembered")
			}
			if !isConsentPage(ask(t, e, "bert "+name, "", q)) {
				t.Error("somebody else's consent counts")
			}
			more := authorizeQuery("openid", firstScope, "api://first-api/Data.Write")
			if a := ask(t, e, user, "", more); !isConsentPage(a) || strings.Count(a.body, "<li>") != 1 || !strings.Contains(a.body, "Data.Write") {
				t.Error("the page does not ask for exactly what is new")
			}
			q.Set("prompt", "login consent")
			if a := ask(t, e, user, "", q); !isConsentPage(a) || strings.Count(a.body, "<li>") != 3 {
				t.Error("prompt=consent does not ask again")
			}
			if a := ask(t, e, user, "", authorizeQuery("openid", "profile")); a.status != http.StatusSeeOther {
				t.Errorf("nothing to consent to: %d", a.status)
			}
		})
	}
}

func TestConsentPageEscapes(t *testing.T) {
	t.Parallel()
	o := withConsent()
	o.AutoLogin = true
	o.Clients = append(o.Clients, idp.Client{ID: "<b>x", Public: true, RedirectURIs: []string{callback}})
	s := listen(t, o)
	q := authorizeQuery("openid", "<script>alert(1)</script>")
	q.Set("client_id", "<b>x")
	q.Set("login_hint", "<i>anna")
	a := get(t, s.URL()+"/authorize?"+q.Encode())
	if !isConsentPage(a) {
		t.Fatalf("AutoLogin asks for no consent: %d", a.status)
	}
	for _, bad := range []string{"<script", "<b>", "<i>"} {
		if strings.Contains(a.body, bad) {
			t.Errorf("%s reaches the page as markup", bad)
		}
	}
}

func TestConsentAtTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	s := listen(t, withConsent())
	for name, tt := range map[string]struct {
		e    endpoints
		code string
	}{"plain": {plain(s), "consent_required"}, "entra": {entra(s), "invalid_grant"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := "anna " + name
			refused := func(form url.Values) {
				t.Helper()
				a := post(t, tt.e.token(), form)
				wantError(t, a, http.StatusBadRequest, tt.code)
				body := a.json(t)
				if codes, _ := body["error_codes"].([]any); body["suberror"] != "consent_required" || len(codes) != 1 || codes[0] != 65001.0 {
					t.Errorf("body %v", body)
				}
			}
			set := func(form url.Values, k, v string) url.Values { form.Set(k, v); return form }
			q := authorizeQuery("openid", "offline_access", firstScope)
			code := func() string { return redirected(t, ask(t, tt.e, user, "accept", q), callback).Get("code") }

			refused(set(codeForm(code()), "scope", "openid "+secondScope))
			tok := mustTokens(t, post(t, tt.e.token(), codeForm(code())))
			refused(set(refreshForm(tok.RefreshToken), "scope", secondScope))
			refused(set(refreshForm(tok.RefreshToken), "scope", firstScope+" api://first-api/Data.Write"))
			tok = mustTokens(t, post(t, tt.e.token(), refreshForm(tok.RefreshToken))) // it was not spent
			tok = mustTokens(t, post(t, tt.e.token(), set(refreshForm(tok.RefreshToken), "scope", firstScope+" "+secondScope)))
			if tok.Scope != firstScope {
				t.Errorf("scope %q, want %q", tok.Scope, firstScope)
			}

			// What the web app may do, the API it calls may not.
			obo := oboForm("first-api", tok.AccessToken, secondScope, "offline_access")
			refused(obo)
			refused(set(exchangeForm("first-api", tok.AccessToken), "scope", secondScope))
			if err := s.Consent(user, "first-api", secondScope); err != nil {
				t.Fatal(err)
			}
			api := mustTokens(t, post(t, tt.e.token(), obo))
			mustTokens(t, post(t, tt.e.token(), set(exchangeForm("first-api", tok.AccessToken), "scope", secondScope)))
			refused(set(as("first-api", refreshForm(api.RefreshToken)), "scope", apiScope))
			refused(set(refreshForm(tok.RefreshToken), "scope", secondScope))

			if a := post(t, s.URL()+"/control/withdraw?"+url.Values{"user": {user}}.Encode(), nil); a.status != http.StatusNoContent {
				t.Fatalf("%d %s", a.status, a.body)
			}
			refused(as("first-api", refreshForm(api.RefreshToken)))
			refused(refreshForm(tok.RefreshToken))
			if got := s.Stats(); got.RefreshReused != 0 || got.FamiliesRevoked != 0 {
				t.Errorf("stats %+v", got)
			}
			consent := url.Values{"user": {user}, "client": {idp.DefaultClientID}, "scope": {firstScope + " " + secondScope}}
			if a := post(t, s.URL()+"/control/consent?"+consent.Encode(), nil); a.status != http.StatusNoContent {
				t.Fatalf("%d %s", a.status, a.body)
			}
			mustTokens(t, post(t, tt.e.token(), set(refreshForm(tok.RefreshToken), "scope", secondScope)))
		})
	}
	mustTokens(t, post(t, plain(s).token(), withClient(url.Values{"grant_type": {"client_credentials"}, "scope": {firstScope}}))) // no user
}

func TestDefaultScopeAndConsent(t *testing.T) {
	t.Parallel()
	s := listen(t, withConsent())
	e := plain(s)
	tests := []struct {
		name, allowed, wanted string
		ok                    bool
	}{
		{"default for one", "api://second-api/.default", secondScope, true},
		{"one for default", secondScope, "api://second-api/.default", true},
		{"default of another API", "api://other/.default", "api://second-api/.default", false},
		{"one for another", "api://second-api/Data.Write", secondScope, false},
		{"another case", "api://second-api/data.read", secondScope, false},
		{"no API", apiScope, "openid", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := s.Consent(tt.name, idp.DefaultClientID, tt.allowed); err != nil {
				t.Fatal(err)
			}
			a := ask(t, e, tt.name, "", authorizeQuery("openid", tt.wanted))
			if got := a.status == http.StatusSeeOther; got != tt.ok || isConsentPage(a) == tt.ok {
				t.Errorf("signed in without being asked: %v, want %v", got, tt.ok)
			}
		})
	}
}

func TestDeviceConsent(t *testing.T) {
	t.Parallel()
	s := listen(t, withConsent())
	e := plain(s)
	code, user := startDevice(t, s, e, "openid", "offline_access", firstScope)
	if page := get(t, s.URL()+"/device?user_code="+user); !strings.Contains(page.body, "<li>"+firstScope) {
		t.Error("the page does not say what it allows")
	}
	if err := s.ApproveDevice(user, "anna"); err != nil {
		t.Fatal(err)
	}
	tok := mustTokens(t, post(t, e.token(), pollForm(code)))
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tok.RefreshToken}, "client_id": {"tv"}}
	form.Set("scope", secondScope)
	wantError(t, post(t, e.token(), form), http.StatusBadRequest, "consent_required")
	form.Del("scope")
	mustTokens(t, post(t, e.token(), form))
}

// What an administrator has allowed, users are not asked for; the rest they are.
func TestConsented(t *testing.T) {
	t.Parallel()
	o := withConsent()
	o.Consented = []string{firstScope}
	s := listen(t, o)
	if a := ask(t, plain(s), "anna", "", authorizeQuery("openid", firstScope)); a.status != http.StatusSeeOther {
		t.Errorf("status %d, want 303", a.status)
	}
	a := ask(t, plain(s), "anna", "", authorizeQuery("openid", firstScope, secondScope))
	if !isConsentPage(a) || strings.Count(a.body, "<li>") != 1 || !strings.Contains(a.body, "<li>"+secondScope) {
		t.Errorf("status %d; the page does not ask for exactly what is left", a.status)
	}
	if _, err := idp.Listen("127.0.0.1:0", &idp.Options{Consented: []string{"a b"}}); err == nil {
		t.Error("two scopes are taken for one")
	}
}

func TestConsentIsOffByDefault(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	q := authorizeQuery("openid", firstScope)
	q.Set("prompt", "consent")
	if a := ask(t, plain(s), "anna", "", q); a.status != http.StatusSeeOther {
		t.Errorf("status %d, want 303", a.status)
	}
}
