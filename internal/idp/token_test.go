package idp_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	special := idp.Client{ID: "a:b c", Secret: "p%w+ d:é", RedirectURIs: []string{callback}}
	s := listen(t, &idp.Options{Clients: []idp.Client{special, {ID: "other", Secret: "x", RedirectURIs: []string{callback}}}})
	encodedID, encodedSecret := url.QueryEscape(special.ID), url.QueryEscape(special.Secret)
	tests := []struct {
		name       string
		form       url.Values
		user, pass string // basic, if any
		status     int
		code       string
	}{
		{"post", url.Values{"client_id": {special.ID}, "client_secret": {special.Secret}}, "", "", 200, ""},
		{"basic", nil, encodedID, encodedSecret, 200, ""},
		{"basic and the same client_id", url.Values{"client_id": {special.ID}}, encodedID, encodedSecret, 200, ""},
		{"basic and another client_id", url.Values{"client_id": {"other"}}, encodedID, encodedSecret, 401, "invalid_client"},
		{"both ways", url.Values{"client_secret": {special.Secret}}, encodedID, encodedSecret, 400, "invalid_request"},
		{"none", nil, "", "", 401, "invalid_client"},
		{"no secret", url.Values{"client_id": {special.ID}}, "", "", 401, "invalid_client"},
		{"wrong secret", url.Values{"client_id": {special.ID}, "client_secret": {"x"}}, "", "", 401, "invalid_client"},
		{"unknown client", url.Values{"client_id": {"nobody"}, "client_secret": {""}}, "", "", 401, "invalid_client"},
		{"basic, wrong secret", nil, encodedID, "x", 401, "invalid_client"},
		{"basic, not encoded", nil, "%zz", "%zz", 401, "invalid_client"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			form := url.Values{"grant_type": {"client_credentials"}}
			for k, v := range tt.form {
				form[k] = v
			}
			req := request(t, http.MethodPost, plain(s).token(), form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
			if tt.user != "" {
				req.SetBasicAuth(tt.user, tt.pass)
			}
			a := do(t, req)
			if a.status != tt.status || a.errorCode(t) != tt.code {
				t.Errorf("got %d %s, want %d %s", a.status, a.body, tt.status, tt.code)
			}
			if wantHeader := tt.status == 401 && tt.user != ""; wantHeader != strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
				t.Errorf("WWW-Authenticate %q", a.header.Get("WWW-Authenticate"))
			}
			if strings.Contains(a.body, special.Secret) {
				t.Error("the secret is in the answer")
			}
		})
	}
}

func TestCodeChecks(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{Clients: []idp.Client{
		{ID: idp.DefaultClientID, Secret: idp.DefaultClientSecret, RedirectURIs: []string{"http://127.0.0.1/callback"}},
		{ID: "other", Secret: "other-secret", RedirectURIs: []string{"http://127.0.0.1/callback"}},
	}})
	tests := []struct {
		name   string
		change url.Values
		want   string
		spent  bool // the code is of no more use afterwards
	}{
		{"wrong verifier", url.Values{"code_verifier": {oauth2.GenerateVerifier()}}, "invalid_grant", true},
		{"the challenge as verifier", url.Values{"code_verifier": {oauth2.S256ChallengeFromVerifier(verifier)}}, "invalid_grant", true},
		{"short verifier", url.Values{"code_verifier": {"short"}}, "invalid_grant", true},
		{"no verifier", url.Values{"code_verifier": nil}, "invalid_request", false},
		{"other redirect URI", url.Values{"redirect_uri": {"http://127.0.0.1:1/callback"}}, "invalid_grant", true},
		{"no redirect URI", url.Values{"redirect_uri": nil}, "invalid_request", false},
		{"unknown code", url.Values{"code": {"unknown"}}, "invalid_grant", false},
		{"no code", url.Values{"code": nil}, "invalid_request", false},
		{"other client", url.Values{"client_id": {"other"}, "client_secret": {"other-secret"}}, "invalid_grant", false},
		{"bad scope", url.Values{"scope": {"\x7f"}}, "invalid_scope", false},
		{"bad resource", url.Values{"resource": {"x"}}, "invalid_target", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code := getCode(t, plain(s), "anna", authorizeQuery())
			form := codeForm(code)
			for k, v := range tt.change {
				if form.Del(k); v != nil {
					form[k] = v
				}
			}
			wantError(t, post(t, plain(s).token(), form), http.StatusBadRequest, tt.want)
			again := post(t, plain(s).token(), codeForm(code))
			if spent := again.status != http.StatusOK; spent != tt.spent {
				t.Errorf("code spent: %v, want %v", spent, tt.spent)
			}
		})
	}
}

func TestCodeBelongsToItsIssuer(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	code := getCode(t, plain(s), "anna", authorizeQuery())
	wantError(t, post(t, entra(s).token(), codeForm(code)), http.StatusBadRequest, "invalid_grant")
	mustTokens(t, post(t, plain(s).token(), codeForm(code)))
}

func TestReplayedCodeRevokesItsTokens(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	other := signIn(t, plain(s), "anna")
	form := codeForm(getCode(t, plain(s), "anna", authorizeQuery()))
	tok := mustTokens(t, post(t, plain(s).token(), form))
	if a := callAPI(t, s, tok.AccessToken); a.status != http.StatusOK {
		t.Fatalf("API before the replay: %d", a.status)
	}
	wantError(t, post(t, plain(s).token(), form), http.StatusBadRequest, "invalid_grant")
	wantError(t, post(t, plain(s).token(), refreshForm(tok.RefreshToken)), http.StatusBadRequest, "invalid_grant")
	if a := callAPI(t, s, tok.AccessToken); a.status != http.StatusUnauthorized {
		t.Errorf("API after the replay: %d, want 401", a.status)
	}
	if got := s.Stats(); got.FamiliesRevoked != 1 || got.RefreshReused != 0 {
		t.Errorf("stats %+v", got)
	}
	mustTokens(t, post(t, plain(s).token(), refreshForm(other.RefreshToken))) // another sign-in is untouched
}

func TestMalformedTokenRequests(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	const form = "application/x-www-form-urlencoded"
	good := withClient(url.Values{"grant_type": {"client_credentials"}}).Encode()
	tests := []struct {
		name, contentType, body string
		status                  int
		code                    string
	}{
		{"good", form, good, 200, ""},
		{"good, with charset", form + "; charset=UTF-8", good, 200, ""},
		{"JSON", "application/json", `{"grant_type":"client_credentials"}`, 400, "invalid_request"},
		{"no content type", "", good, 400, "invalid_request"},
		{"bad escape", form, good + "&x=%zz", 400, "invalid_request"},
		{"semicolon", form, good + ";x=y", 400, "invalid_request"},
		{"repeated parameter", form, good + "&grant_type=client_credentials", 400, "invalid_request"},
		{"no grant type", form, withClient(url.Values{}).Encode(), 400, "invalid_request"},
		{"password grant", form, withClient(url.Values{"grant_type": {"password"}}).Encode(), 400, "unsupported_grant_type"},
		{"no refresh token", form, withClient(url.Values{"grant_type": {"refresh_token"}}).Encode(), 400, "invalid_request"},
		{"foreign refresh token", form, refreshForm("a.0.b").Encode(), 400, "invalid_grant"},
		{"empty refresh parts", form, refreshForm("..").Encode(), 400, "invalid_grant"},
		{"too large", form, good + "&x=" + strings.Repeat("a", 64<<10), 413, "invalid_request"},
		{"two resources", form, good + "&resource=api://a&resource=api://b", 400, "invalid_target"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := do(t, request(t, http.MethodPost, plain(s).token(), tt.body, "Content-Type", tt.contentType))
			if a.status != tt.status || a.errorCode(t) != tt.code {
				t.Errorf("got %d %s, want %d %s", a.status, a.body, tt.status, tt.code)
			}
			if a.header.Get("Cache-Control") != "no-store" {
				t.Error("the answer may be cached")
			}
		})
	}
	if a := get(t, plain(s).token()); a.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d, want 405", a.status)
	}
}
