package idp_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiscovery(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	tenant := strings.TrimSuffix(s.TenantURL(), "/v2.0")
	tests := []struct {
		issuer, base, keys, device string
	}{
		{s.URL(), s.URL(), s.URL() + "/keys", s.URL() + "/device_authorization"},
		{s.TenantURL(), tenant + "/oauth2/v2.0", tenant + "/discovery/v2.0/keys", tenant + "/oauth2/v2.0/devicecode"},
	}
	for _, tt := range tests {
		a := get(t, tt.issuer+"/.well-known/openid-configuration")
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
			t.Fatalf("%s: %d %s", tt.issuer, a.status, a.header.Get("Content-Type"))
		}
		doc := a.json(t)
		want := map[string]any{
			"issuer": tt.issuer, "device_authorization_endpoint": tt.device,
			"authorization_endpoint": tt.base + "/authorize", "token_endpoint": tt.base + "/token",
			"revocation_endpoint": tt.base + "/revoke", "end_session_endpoint": tt.base + "/logout",
			"userinfo_endpoint": tt.base + "/userinfo", "jwks_uri": tt.keys,
			"code_challenge_methods_supported": []any{"S256"},
			"grant_types_supported": []any{
				"authorization_code", "refresh_token", "client_credentials",
				"urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:token-exchange",
				"urn:ietf:params:oauth:grant-type:device_code",
			},
			"authorization_response_iss_parameter_supported":        true,
			"token_endpoint_auth_methods_supported":                 []any{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
			"token_endpoint_auth_signing_alg_values_supported":      []any{"RS256", "PS256", "ES256"},
			"revocation_endpoint_auth_methods_supported":            []any{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
			"revocation_endpoint_auth_signing_alg_values_supported": []any{"RS256", "PS256", "ES256"},
			"request_uri_parameter_supported":                       false,
			"backchannel_logout_supported":                          true,
			"backchannel_logout_session_supported":                  true,
		}
		for name, v := range want {
			if diff := cmp.Diff(v, doc[name]); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", tt.issuer, name, diff)
			}
		}
	}
	plain := get(t, s.URL()+"/keys").json(t)["keys"].([]any)[0].(map[string]any)
	entra := get(t, tenant+"/discovery/v2.0/keys").json(t)["keys"].([]any)[0].(map[string]any)
	if _, ok := plain["issuer"]; ok || entra["issuer"] != s.TenantURL() {
		t.Error("the keys of the tenant do not say whose they are, or the others do")
	}
	delete(entra, "issuer")
	if diff := cmp.Diff(plain, entra); diff != "" {
		t.Errorf("the issuers do not share their keys (-plain +tenant):\n%s", diff)
	}
	if a := get(t, s.URL()+"/keys"); strings.Contains(a.body, `"d"`) {
		t.Error("the private key is published")
	}
}

func TestUnknownTenant(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	other := s.URL() + "/99999999-2222-3333-4444-555555555555"
	for _, path := range []string{"/v2.0/.well-known/openid-configuration", "/discovery/v2.0/keys", "/oauth2/v2.0/authorize"} {
		a := get(t, other+path)
		wantError(t, a, http.StatusBadRequest, "invalid_tenant")
		if !strings.Contains(a.body, "AADSTS90002") || !strings.Contains(a.body, "correlation_id") {
			t.Errorf("%s: not Entra's error: %s", path, a.body)
		}
	}
	wantError(t, post(t, other+"/oauth2/v2.0/token", refreshForm("x")), http.StatusBadRequest, "invalid_tenant")
	own := s.TenantURL()
	if a := get(t, own+"/.well-known/openid-configuration"); a.status != http.StatusOK {
		t.Errorf("own tenant: %d", a.status)
	}
}
