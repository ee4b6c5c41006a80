package idp_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

const cp1 = `{"access_token":{"xms_cc":{"values":["cp1"]}}}`

// A token says that it was asked for with the capability, and lives as long as such
// tokens do, whatever the grant.
func TestCapability(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{TokenLifetime: time.Minute, CAETokenLifetime: 3 * time.Hour})
	e := entra(s)
	first := signIn(t, e, "anna")
	check := func(what string, tok tokens, want bool) {
		t.Helper()
		p := payload(t, tok.AccessToken)
		got, _ := p["xms_cc"].([]any)
		if slices.Contains(got, any("cp1")) != want || (p["xms_cc"] == nil) == want {
			t.Errorf("%s: xms_cc %v, want %v", what, p["xms_cc"], want)
		}
		seconds := 60.0
		if want {
			seconds = 3 * 3600
		}
		life := p["exp"].(float64) - p["iat"].(float64)
		if float64(tok.ExpiresIn) != seconds || life < seconds || life > seconds+1 {
			t.Errorf("%s: lives for %v seconds, and expires_in is %d; want %v", what, life, tok.ExpiresIn, seconds)
		}
		if tok.IDToken != "" {
			if id := payload(t, tok.IDToken); id["xms_cc"] != nil || id["exp"].(float64)-id["iat"].(float64) > 61 {
				t.Errorf("%s: the ID token has the capability", what)
			}
		}
	}
	check("code", first, false)
	for claims, want := range map[string]bool{
		cp1: true,
		`{"access_token":{"xms_cc":{"values":["other","CP1"]},"nbf":{"essential":true}}}`: true,
		`{"access_token":{"xms_cc":{"values":["other"]}}}`:                                false,
		`{"access_token":{"xms_cc":null}}`:                                                false,
		`{"access_token":{"nbf":{"value":"cp1"}}}`:                                        false,
		`{"id_token":{"xms_cc":{"values":["cp1"]}}}`:                                      false,
		`{"access_token":"cp1"}`:                                                          false,
	} {
		form := refreshForm(first.RefreshToken)
		form.Set("claims", claims)
		next := mustTokens(t, post(t, e.token(), form))
		check("refresh "+claims, next, want)
		first = next
	}
	form := withClient(url.Values{"grant_type": {"client_credentials"}, "scope": {"api://x/.default"}, "claims": {cp1}})
	check("application", mustTokens(t, post(t, e.token(), form)), true)
	form = codeForm(getCode(t, e, "anna", authorizeQuery()))
	form.Set("claims", cp1)
	check("code with it", mustTokens(t, post(t, e.token(), form)), true)
}

// That a client can handle challenges is no answer to what is demanded of its user.
func TestCapabilityMeetsNoDemand(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	e := entra(s)
	tok := signIn(t, e, "anna")
	if err := s.RequireInteraction("anna", `{"id_token":{}}`); err != nil {
		t.Fatal(err)
	}
	q := authorizeQuery()
	q.Set("claims", cp1)
	getCode(t, e, "anna", q)
	wantError(t, post(t, e.token(), refreshForm(tok.RefreshToken)), http.StatusBadRequest, "interaction_required")
	q.Set("claims", `{"access_token":{"xms_cc":{"values":["cp1"]}},"id_token":{}}`)
	getCode(t, e, "anna", q)
	mustTokens(t, post(t, e.token(), refreshForm(tok.RefreshToken)))
}
