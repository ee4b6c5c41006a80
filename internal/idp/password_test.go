package idp_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

const annasPassword = "marker-password ü&="

func withPasswords() *idp.Options {
	o := withConsent()
	o.Consent = false
	o.Passwords = map[string]string{"Anna": annasPassword, "bert": "marker-of-bert"}
	o.Clients = append(o.Clients, idp.Client{
		ID: "fallback", Secret: "marker-secret", RedirectURIs: []string{callback}, PublicPassword: true,
	})
	return o
}

// passwordForm is a request of the public client, to be changed by a test.
func passwordForm(user, password string, scope ...string) url.Values {
	return url.Values{
		"grant_type": {"password"}, "client_id": {"tv"}, "username": {user}, "password": {password}, "scope": {strings.Join(scope, " ")},
	}
}

func realms(s *idp.Server) map[string]endpoints {
	return map[string]endpoints{"plain": plain(s), "entra": entra(s)}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	s := listen(t, withPasswords())
	for name, e := range realms(s) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, user := range []string{"anna", " ANNA ", "Anna@contoso.test"} {
				form := passwordForm(user, annasPassword, "openid", "profile", "offline_access", apiScope)
				tok := mustTokens(t, post(t, e.token(), form))
				id, by := payload(t, tok.IDToken), signIn(t, e, "anna")
				for _, claim := range []string{"iss", "oid", "tid", "preferred_username"} {
					if want := payload(t, by.IDToken)[claim]; want == nil || id[claim] != want {
						t.Errorf("%s: %s is %v, and %v after signing in in the browser", user, claim, id[claim], want)
					}
				}
				if id["aud"] != "tv" || id["nonce"] != nil || id["sid"] == nil || id["auth_time"] == nil {
					t.Errorf("claims %v", id)
				}
				if tok.Scope != "openid profile "+apiScope || (tok.ClientInfo != "") != (name == "entra") {
					t.Errorf("scope %q, client_info %q", tok.Scope, tok.ClientInfo)
				}
				refresh := url.Values{"grant_type": {"refresh_token"}, "client_id": {"tv"}, "refresh_token": {tok.RefreshToken}}
				next := mustTokens(t, post(t, e.token(), refresh))
				if a := callAPI(t, s, next.AccessToken); a.status != http.StatusOK || next.RefreshToken == tok.RefreshToken {
					t.Errorf("refreshed: %d %s", a.status, a.body)
				}
				wantError(t, post(t, e.token(), refresh), http.StatusBadRequest, "invalid_grant")
			}
			bare := mustTokens(t, post(t, e.token(), passwordForm("bert", "marker-of-bert", apiScope)))
			if bare.IDToken != "" || bare.RefreshToken != "" {
				t.Error("an ID token or a refresh token that was not asked for")
			}
		})
	}
}

func TestPasswordRefused(t *testing.T) {
	t.Parallel()
	s := listen(t, withPasswords())
	wrong := func(f url.Values) url.Values { f.Set("scope", "openid"); return f }
	for name, tt := range map[string]struct {
		form url.Values
		code string
		text string
	}{
		"wrong":            {wrong(passwordForm("anna", "marker-wrong")), "invalid_grant", "AADSTS50126"},
		"another's":        {wrong(passwordForm("bert", annasPassword)), "invalid_grant", "AADSTS50126"},
		"a prefix":         {wrong(passwordForm("anna", annasPassword[:5])), "invalid_grant", "AADSTS50126"},
		"in another case":  {wrong(passwordForm("anna", strings.ToUpper(annasPassword))), "invalid_grant", "AADSTS50126"},
		"with a space":     {wrong(passwordForm("anna", annasPassword+" ")), "invalid_grant", "AADSTS50126"},
		"no such user":     {wrong(passwordForm("carl", "marker-wrong")), "invalid_grant", "AADSTS50126"},
		"not a user":       {wrong(passwordForm("an\nna", annasPassword)), "invalid_grant", "AADSTS50126"},
		"not UTF-8":        {wrong(passwordForm("\xff", annasPassword)), "invalid_grant", "AADSTS50126"},
		"huge name":        {wrong(passwordForm(strings.Repeat("a", 50_000), annasPassword)), "invalid_grant", "AADSTS50126"},
		"huge password":    {wrong(passwordForm("anna", strings.Repeat("a", 50_000))), "invalid_grant", "AADSTS50126"},
		"no password":      {wrong(passwordForm("carl", "")), "invalid_request", "password is missing"},
		"no name":          {wrong(passwordForm("", annasPassword)), "invalid_request", "username is missing"},
		"two names":        {url.Values{"grant_type": {"password"}, "client_id": {"tv"}, "username": {"anna", "bert"}, "password": {annasPassword}}, "invalid_request", "repeated"},
		"claims":           {url.Values{"grant_type": {"password"}, "client_id": {"tv"}, "username": {"anna"}, "password": {annasPassword}, "claims": {"[]"}}, "invalid_request", "claims"},
		"malformed scopes": {passwordForm("anna", annasPassword, `a"b`), "invalid_scope", "scope"},
		"resource": {url.Values{
			"grant_type": {"password"}, "client_id": {"tv"}, "username": {"anna"}, "password": {annasPassword}, "resource": {"x"},
		}, "invalid_target", "resource"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, e := range realms(s) {
				a := post(t, e.token(), tt.form)
				wantError(t, a, http.StatusBadRequest, tt.code)
				if !strings.Contains(a.body, tt.text) || strings.Contains(a.body, "marker") {
					t.Errorf("got %s, want %q in it and no password", a.body, tt.text)
				}
			}
		})
	}
	if a := post(t, s.URL()+"/token", passwordForm("anna", strings.Repeat("a", 64<<10))); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("more than a form may have: %d, want 413", a.status)
	}
}

// A client that has a secret shows it, unless it is registered as one that need not.
func TestPasswordClients(t *testing.T) {
	t.Parallel()
	s := listen(t, withPasswords())
	form := func(change url.Values) url.Values {
		f := passwordForm("anna", annasPassword, "openid")
		for k, v := range change {
			f[k] = v
		}
		return f
	}
	for name, tt := range map[string]struct {
		form url.Values
		text string // in the error, or ""
	}{
		"secret":                    {withClient(form(nil)), ""},
		"no secret":                 {form(url.Values{"client_id": {idp.DefaultClientID}}), "AADSTS7000218"},
		"wrong secret":              {form(url.Values{"client_id": {idp.DefaultClientID}, "client_secret": {"x"}}), "AADSTS7000215"},
		"need not show":             {form(url.Values{"client_id": {"fallback"}}), ""},
		"need not show, and does":   {form(url.Values{"client_id": {"fallback"}, "client_secret": {"marker-secret"}}), ""},
		"need not show, and errs":   {form(url.Values{"client_id": {"fallback"}, "client_secret": {"x"}}), "AADSTS7000215"},
		"need not show, an empty":   {form(url.Values{"client_id": {"fallback"}, "client_secret": {""}}), "AADSTS7000215"},
		"need not show, asserts":    {form(url.Values{"client_id": {"fallback"}, "client_assertion": {"x"}}), "client_assertion_type"},
		"unknown":                   {form(url.Values{"client_id": {"x"}}), "AADSTS7000215"},
		"none":                      {form(url.Values{"client_id": nil}), "AADSTS7000215"},
		"need not show, other type": {url.Values{"grant_type": {"client_credentials"}, "client_id": {"fallback"}}, "AADSTS7000215"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, e := range realms(s) {
				a := post(t, e.token(), tt.form)
				if tt.text == "" {
					mustTokens(t, a)
				} else if a.status < 400 || !strings.Contains(a.body, tt.text) {
					t.Errorf("got %d %s, want %s", a.status, a.body, tt.text)
				}
			}
		})
	}
}

// Nobody is in front of a browser: what would be asked there refuses the grant, and
// leaves nothing behind.
func TestPasswordIsNotEnough(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{"plain": "", "entra": "invalid_grant"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := withPasswords()
			o.Consent = true
			s := listen(t, o)
			e := realms(s)[name]
			want := func(form url.Values, plain, suberror, claims string) {
				t.Helper()
				a := post(t, e.token(), form)
				if code != "" {
					plain = code
				}
				wantError(t, a, http.StatusBadRequest, plain)
				if got, _ := a.json(t)["claims"].(string); got != claims || a.json(t)["suberror"] != suberror {
					t.Errorf("got %s", a.body)
				}
			}
			form := passwordForm("anna", annasPassword, "openid", apiScope)
			want(form, "consent_required", "consent_required", "")
			if err := s.Consent("anna", "tv", apiScope); err != nil {
				t.Fatal(err)
			}
			mustTokens(t, post(t, e.token(), form))
			if err := s.RequireInteraction("anna", `{"a":null}`); err != nil {
				t.Fatal(err)
			}
			want(form, "interaction_required", "basic_action", `{"a":null}`)
			form.Set("claims", `{"a":null}`)
			want(form, "interaction_required", "basic_action", `{"a":null}`)
			form.Set("password", "marker-wrong") // tells nothing of what is demanded
			a := post(t, e.token(), form)
			if a.errorCode(t) != "invalid_grant" || a.json(t)["suberror"] != nil {
				t.Errorf("a wrong password: %s", a.body)
			}
			st := s.Stats()
			if st.SignIns != 1 || st.TokenRequests.Password != 5 {
				t.Errorf("stats %+v", st)
			}
			if n, err := s.RevokeUser("anna"); n != 1 || err != nil {
				t.Errorf("%d families, %v, want 1", n, err)
			}
		})
	}
}

// What comes from a password ends like what comes from a browser.
func TestPasswordSignInIsRevoked(t *testing.T) {
	t.Parallel()
	s := listen(t, withPasswords())
	tok := mustTokens(t, post(t, s.URL()+"/token", passwordForm("anna", annasPassword, "openid", "offline_access", apiScope)))
	if n, err := s.EndSessions("anna"); n != 1 || err != nil {
		t.Errorf("%d sessions, %v, want 1", n, err)
	}
	if n, err := s.RevokeUser("anna"); n != 1 || err != nil {
		t.Errorf("%d families, %v, want 1", n, err)
	}
	wantError(t, post(t, s.URL()+"/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {"tv"}, "refresh_token": {tok.RefreshToken}}),
		http.StatusBadRequest, "invalid_grant")
	if a := callAPI(t, s, tok.AccessToken); a.status != http.StatusUnauthorized {
		t.Errorf("API: %d, want 401", a.status)
	}
}

func TestPasswordFaults(t *testing.T) {
	t.Parallel()
	s := listen(t, withPasswords())
	form := passwordForm("anna", annasPassword, "openid", "offline_access", apiScope)
	fault(t, s, idp.Fault{Endpoint: "token", Kind: "no_refresh_token"})
	if tok := mustTokens(t, post(t, s.URL()+"/token", form)); tok.RefreshToken != "" {
		t.Error("there is a refresh token")
	}
	fault(t, s, idp.Fault{Endpoint: "token", Status: 503})
	wantError(t, post(t, s.URL()+"/token", form), http.StatusServiceUnavailable, "temporarily_unavailable")
	if n := s.Stats().TokenRequests.Password; n != 2 {
		t.Errorf("%d requests counted, want 2", n)
	}
}

// Without passwords there is no such grant, and with them it is announced.
func TestPasswordIsOffered(t *testing.T) {
	t.Parallel()
	for _, with := range []bool{false, true} {
		o := withPasswords()
		if !with {
			o.Passwords = nil
		}
		s := listen(t, o)
		for name, e := range realms(s) {
			types := get(t, e.issuer+"/.well-known/openid-configuration").json(t)["grant_types_supported"].([]any)
			if slices.Contains(types, any("password")) != with {
				t.Errorf("%s: grant types %v", name, types)
			}
			if a := post(t, e.token(), passwordForm("anna", annasPassword)); with {
				mustTokens(t, a)
			} else {
				wantError(t, a, http.StatusBadRequest, "unsupported_grant_type")
			}
		}
	}
}

func TestPasswordOptions(t *testing.T) {
	t.Parallel()
	for name, passwords := range map[string]map[string]string{
		"not a name": {"marker\nx": "x"}, "no name": {"": "marker"}, "empty": {"marker": ""},
		"twice": {"marker": "x", "MARKER@contoso.test": "y"},
	} {
		s, err := idp.Listen("127.0.0.1:0", &idp.Options{Passwords: passwords})
		if err == nil {
			_ = s.Close(t.Context())
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: the error shows a name or a password", name)
		}
	}
	passwords := map[string]string{"anna": annasPassword}
	o := withPasswords()
	o.Passwords = passwords
	s := listen(t, o)
	passwords["anna"] = "marker-other"
	mustTokens(t, post(t, s.URL()+"/token", passwordForm("anna", annasPassword)))
}
