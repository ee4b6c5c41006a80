package idp_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// TestOIDCClient runs the flow with the libraries that applications use.
func TestOIDCClient(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	for _, issuer := range []string{s.URL(), s.TenantURL()} {
		t.Run(strings.TrimPrefix(issuer, s.URL()), func(t *testing.T) {
			t.Parallel()
			ctx := oidc.ClientContext(t.Context(), browser(t))
			provider, err := oidc.NewProvider(ctx, issuer)
			if err != nil {
				t.Fatal(err)
			}
			conf := &oauth2.Config{
				ClientID: idp.DefaultClientID, ClientSecret: idp.DefaultClientSecret,
				Endpoint: provider.Endpoint(), RedirectURL: callback,
				Scopes: []string{oidc.ScopeOpenID, "profile", oidc.ScopeOfflineAccess, apiScope},
			}
			v := oauth2.GenerateVerifier()
			form := get(t, conf.AuthCodeURL("s", oauth2.S256ChallengeOption(v), oidc.Nonce("n")))
			if form.status != http.StatusOK || !strings.Contains(form.body, `name="username"`) {
				t.Fatalf("no login form: %d", form.status)
			}
			q := redirected(t, post(t, conf.AuthCodeURL("s", oauth2.S256ChallengeOption(v), oidc.Nonce("n")),
				url.Values{"username": {"Anna"}}), callback)
			if q.Get("state") != "s" || q.Get("iss") != issuer {
				t.Errorf("got state %q and iss %q, want s and %q", q.Get("state"), q.Get("iss"), issuer)
			}
			token, err := conf.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(v))
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := token.Extra("id_token").(string)
			id, err := provider.Verifier(&oidc.Config{ClientID: conf.ClientID}).Verify(ctx, raw)
			if err != nil {
				t.Fatal(err)
			}
			if id.Nonce != "n" || id.Issuer != issuer {
				t.Errorf("got nonce %q and issuer %q, want n and %q", id.Nonce, id.Issuer, issuer)
			}
			info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
			if err != nil {
				t.Fatal(err)
			}
			if info.Subject != id.Subject {
				t.Errorf("userinfo is about %q, the ID token about %q", info.Subject, id.Subject)
			}

			token.Expiry = time.Now().Add(-time.Hour)
			fresh, err := conf.TokenSource(ctx, token).Token()
			if err != nil {
				t.Fatal(err)
			}
			if fresh.RefreshToken == token.RefreshToken || fresh.AccessToken == token.AccessToken {
				t.Error("the refresh brought no new tokens")
			}
			if a := callAPI(t, s, fresh.AccessToken); a.status != http.StatusOK {
				t.Errorf("API: %d %s", a.status, a.body)
			}
		})
	}
}

func TestClientCredentialsClient(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	conf := clientcredentials.Config{
		ClientID: idp.DefaultClientID, ClientSecret: idp.DefaultClientSecret,
		TokenURL: plain(s).token(), Scopes: []string{"api://other/.default"},
	}
	token, err := conf.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := payload(t, token.AccessToken)
	if c["aud"] != "api://other" || c["idtyp"] != "app" || c["scp"] != ".default" || c["family_id"] != nil {
		t.Errorf("claims %v", c)
	}
	if token.RefreshToken != "" || token.Extra("id_token") != nil {
		t.Error("an application got a refresh token or an ID token")
	}
	if a := get(t, s.URL()+"/userinfo", "Authorization", "Bearer "+token.AccessToken); a.status != http.StatusForbidden {
		t.Errorf("userinfo for an application: %d", a.status)
	}
}

func TestTokenResponse(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{TokenLifetime: 90 * time.Second})
	before := time.Now().Unix()
	p, e := signIn(t, plain(s), "Anna Example"), signIn(t, entra(s), "ANNA example@contoso.test")
	if p.TokenType != "Bearer" || p.ExpiresIn != 90 || p.ExtExpiresIn != 90 || p.RefreshToken == "" {
		t.Errorf("response %+v", p)
	}
	if want := "openid profile " + apiScope; p.Scope != want {
		t.Errorf("scope %q, want %q", p.Scope, want)
	}
	if p.ClientInfo != "" {
		t.Error("client_info at the plain issuer without being asked for")
	}

	ip, ie := payload(t, p.IDToken), payload(t, e.IDToken)
	if ip["oid"] != ie["oid"] || ip["sub"] != ie["sub"] {
		t.Error("the same name is not the same account at both issuers")
	}
	want := map[string]any{
		"iss": s.URL(), "aud": idp.DefaultClientID, "tid": idp.DefaultTenant, "nonce": "the-nonce", "ver": "2.0",
		"preferred_username": "anna example@contoso.test", "name": "Anna Example",
	}
	for name, v := range want {
		if ip[name] != v {
			t.Errorf("ID token %s = %v, want %v", name, ip[name], v)
		}
	}
	for _, name := range []string{"iat", "nbf", "exp", "auth_time"} {
		at, ok := ip[name].(float64)
		if name == "exp" {
			at -= 91 // rounded up
		}
		if now := time.Now().Unix(); !ok || int64(at) < before-1 || int64(at) > now {
			t.Errorf("ID token %s = %v, want now", name, ip[name])
		}
	}
	if ip["sid"] == ie["sid"] || ip["sid"] == nil {
		t.Error("two sign-ins have one sid, or none")
	}

	raw, err := base64.RawURLEncoding.DecodeString(e.ClientInfo)
	if err != nil {
		t.Fatal(err)
	}
	var info map[string]any
	if err := json.Unmarshal(raw, &info); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"uid": ie["oid"], "utid": idp.DefaultTenant}, info); diff != "" {
		t.Errorf("client_info (-want +got):\n%s", diff)
	}
}

// TestObjectIDIsStable pins the derivation: fixtures in other packages may
// hold an account ID.
func TestObjectIDIsStable(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	tok := signIn(t, plain(s), "anna")
	got := callAPI(t, s, tok.AccessToken).json(t)
	want := map[string]any{
		"account": payload(t, tok.IDToken)["oid"].(string) + "." + idp.DefaultTenant,
		"name":    "anna", "username": "anna@contoso.test", "scopes": []any{"Data.Read"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("/api/me (-want +got):\n%s", diff)
	}
	const oid = "545eb2fd-cdef-86ab-abb1-506df3e71986"
	if got := payload(t, tok.IDToken)["oid"]; got != oid {
		t.Errorf("oid %v, want %v", got, oid)
	}
}

func TestClientInfoOnRequest(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	form := refreshForm(signIn(t, plain(s), "anna").RefreshToken)
	form.Set("client_info", "1")
	if mustTokens(t, post(t, plain(s).token(), form)).ClientInfo == "" {
		t.Error("no client_info")
	}
}

func TestAudiences(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	tests := []struct {
		name, resource, scope string
		wantAud, wantScp      string
	}{
		{"sign-in's own", "", "", "api://coatcheck-example", "Data.Read"},
		{"another API", "", "api://mail/Read api://mail/Send", "api://mail", "Read Send"},
		{"first audience wins", "", "openid api://mail/Read api://files/Write Plain", "api://mail", "Read Plain"},
		{"path in the audience", "", "https://example.test/api/v1/Read", "https://example.test/api/v1", "Read"},
		{"no audience", "", "openid", "api://coatcheck-example", ""},
		{"no slash after the name", "", "api://mail", "api://coatcheck-example", "api://mail"},
		{"case is kept", "", "api://Mail/rEAD", "api://Mail", "rEAD"},
		{"resource wins", "https://r.example.test/", "api://mail/Read Plain", "https://r.example.test/", "Plain"},
		{"resource alone", "api://mail", "", "api://mail", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			form := refreshForm(signIn(t, plain(s), "anna").RefreshToken)
			if tt.resource != "" {
				form.Set("resource", tt.resource)
			}
			if tt.scope != "" {
				form.Set("scope", tt.scope)
			}
			got := mustTokens(t, post(t, plain(s).token(), form))
			c := payload(t, got.AccessToken)
			scp, _ := c["scp"].(string)
			if c["aud"] != tt.wantAud || scp != tt.wantScp {
				t.Errorf("aud %v scp %q, want %v %q", c["aud"], scp, tt.wantAud, tt.wantScp)
			}
			// RFC 6749 §5.1: the scope of this access token, not of the request.
			granted := slices.DeleteFunc(strings.Fields(tt.scope), func(s string) bool {
				return s != "openid" && !slices.Contains(strings.Fields(tt.wantScp), s[strings.LastIndex(s, "/")+1:]) &&
					!slices.Contains(strings.Fields(tt.wantScp), s)
			})
			if want := strings.Join(granted, " "); tt.scope != "" && got.Scope != want {
				t.Errorf("scope %q, want %q", got.Scope, want)
			}
			if hasID := got.IDToken != ""; hasID != (tt.scope == "" || strings.HasPrefix(tt.scope, "openid")) {
				t.Errorf("ID token present: %v", hasID)
			}
			if got.RefreshToken == "" {
				t.Error("a refresh brought no refresh token")
			}
		})
	}
}

func TestResourceOfTheAuthorizationRequest(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	q := authorizeQuery("openid", "offline_access")
	q.Set("resource", "api://mail")
	first := mustTokens(t, post(t, plain(s).token(), codeForm(getCode(t, plain(s), "anna", q))))
	second := mustTokens(t, post(t, plain(s).token(), refreshForm(first.RefreshToken)))
	for _, tok := range []tokens{first, second} {
		if aud := payload(t, tok.AccessToken)["aud"]; aud != "api://mail" {
			t.Errorf("aud %v, want api://mail", aud)
		}
	}
}

func TestScopesDecideWhatIsIssued(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	if tok := signIn(t, plain(s), "anna", "openid", apiScope); tok.RefreshToken != "" {
		t.Error("a refresh token without offline_access")
	}
	// MSAL names the OpenID Connect scopes only when it redeems the code.
	form := codeForm(getCode(t, entra(s), "anna", authorizeQuery("openid", apiScope)))
	form.Set("scope", "openid offline_access api://mail/Read")
	tok := mustTokens(t, post(t, entra(s).token(), form))
	if tok.RefreshToken == "" || payload(t, tok.AccessToken)["aud"] != "api://mail" {
		t.Errorf("scope of the token request was ignored: %q", tok.Scope)
	}
}

func TestRefreshKeepsTheSignIn(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	first := signIn(t, plain(s), "anna")
	time.Sleep(1100 * time.Millisecond) // JWT times are whole seconds
	second := mustTokens(t, post(t, plain(s).token(), refreshForm(first.RefreshToken)))
	a, b := payload(t, first.IDToken), payload(t, second.IDToken)
	for _, name := range []string{"sub", "oid", "sid", "auth_time"} {
		if a[name] != b[name] {
			t.Errorf("%s changed from %v to %v", name, a[name], b[name])
		}
	}
	if b["nonce"] != nil {
		t.Error("the ID token of a refresh has a nonce")
	}
	if a["iat"] == b["iat"] {
		t.Error("the ID token of a refresh is not new")
	}
}
