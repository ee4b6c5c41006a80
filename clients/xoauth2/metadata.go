package xoauth2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

// metadata is what this package uses of a server's metadata: OpenID Connect
// Discovery 1.0 §3, RFC 8414 §2, RFC 8628 §4, RFC 9207 §3, OpenID Connect
// RP-Initiated Logout 1.0 §2.1 and Back-Channel Logout 1.0 §2.1.
type metadata struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Keys          string   `json:"jwks_uri"`
	Revocation    string   `json:"revocation_endpoint"`
	Device        string   `json:"device_authorization_endpoint"`
	EndSession    string   `json:"end_session_endpoint"`
	Scopes        []string `json:"scopes_supported"`
	Grants        []string `json:"grant_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	TokenAuth     []string `json:"token_endpoint_auth_methods_supported"`
	RevokeAuth    []string `json:"revocation_endpoint_auth_methods_supported"`
	Iss           bool     `json:"authorization_response_iss_parameter_supported"`
	LogoutSession bool     `json:"backchannel_logout_session_supported"`

	entra    *entraURLs // nil unless the server looks like Entra ID
	template bool       // Issuer is a template, of Entra ID's for several tenants
}

// tenantPlaceholder is what Entra ID writes into the issuer of an endpoint
// that serves several tenants.
const tenantPlaceholder = "{tenantid}"

// discover fetches and checks the metadata of an issuer.
func discover(ctx context.Context, hc *http.Client, issuer string) (*metadata, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("xoauth2: the issuer must be an https URL (or http, for a server of your own network) without a query")
	}
	var m metadata
	if err := get(ctx, hc, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &m); err != nil {
		return nil, fmt.Errorf("xoauth2: discovery: %w", err)
	}
	m.entra = entraOf(u, m.Token)
	// Discovery §4.3: the issuer must be the one that was asked, or somebody
	// else's metadata would be believed.
	m.template = m.entra != nil && m.Issuer == m.entra.issuer(tenantPlaceholder)
	if m.Issuer != issuer && !m.template {
		return nil, fmt.Errorf("xoauth2: the issuer is configured as %q, and calls itself %q", issuer, m.Issuer)
	}
	return &m, m.check(u)
}

// check refuses metadata that cannot be worked with.
func (m *metadata) check(issuer *url.URL) error {
	for _, e := range []struct {
		name, url string
		required  bool
	}{
		{"authorization_endpoint", m.Authorization, true},
		{"token_endpoint", m.Token, true},
		{"jwks_uri", m.Keys, true},
		{"revocation_endpoint", m.Revocation, false},
		{"device_authorization_endpoint", m.Device, false},
		{"end_session_endpoint", m.EndSession, false},
	} {
		if e.url == "" && !e.required {
			continue
		}
		u, err := url.Parse(e.url)
		// Nothing may travel less protected than the metadata did.
		if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != issuer.Scheme) {
			return fmt.Errorf("xoauth2: the server's %s is missing, or no %s URL", e.name, issuer.Scheme)
		}
	}
	if len(m.Algorithms) > 0 && len(m.algorithms()) == 0 {
		return errors.New("xoauth2: the server signs ID tokens with no algorithm that can be verified")
	}
	return nil
}

// algorithms returns those that ID tokens may be signed with: what the server
// announces, without none and without MACs, for which the client's secret would
// be the key. With none announced go-oidc takes RS256, which every server must
// have (OpenID Connect Core §15.1).
func (m *metadata) algorithms() []string {
	allowed := []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512,
		oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
	}
	return slices.DeleteFunc(allowed, func(a string) bool { return !slices.Contains(m.Algorithms, a) })
}

// basicScopes are added to every sign-in. Servers that publish their scopes and
// have no offline_access, such as Google's, refuse it.
func (m *metadata) basicScopes() []string {
	if len(m.Scopes) > 0 && !slices.Contains(m.Scopes, oidc.ScopeOfflineAccess) {
		return []string{oidc.ScopeOpenID}
	}
	return []string{oidc.ScopeOpenID, oidc.ScopeOfflineAccess}
}

// inBody tells whether the client's secret goes into the form. Basic is the
// default, and every server that issues secrets must have it (RFC 6749 §2.3.1).
func inBody(methods []string) bool {
	return slices.Contains(methods, "client_secret_post") && !slices.Contains(methods, "client_secret_basic")
}

// issued tells whether iss, of a token that names the tenant, is this server's
// issuer. With otherTenant it was asked for at another tenant's endpoint.
func (m *metadata) issued(iss, tenant string, otherTenant bool) bool {
	if m.entra != nil && (otherTenant || m.template) {
		return validTenant(tenant) && iss == m.entra.issuer(tenant)
	}
	return iss == m.Issuer
}

// answered tells whether iss, of an authorization response, is this server's.
func (m *metadata) answered(iss string) bool {
	return iss == m.Issuer || m.template && m.issued(iss, m.entra.tenantIn(iss), true)
}
