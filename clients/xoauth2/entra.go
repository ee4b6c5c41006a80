package xoauth2

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const entraSuffix = "/v2.0"

// entraURLs are the URLs of a server that looks like Microsoft Entra ID: its
// issuer is https://host/{tenant}/v2.0, and its token endpoint is
// https://host/{tenant}/oauth2/v2.0/token.
type entraURLs struct {
	root  string // before the tenant, with the slash
	token string // the token endpoint's host, with the slash
}

const entraTokenPath = "/oauth2/v2.0/token"

// entraOf returns nil for any other server.
func entraOf(issuer *url.URL, tokenEndpoint string) *entraURLs {
	tenant, ok := strings.CutSuffix(strings.TrimPrefix(issuer.Path, "/"), entraSuffix)
	token, err := url.Parse(tokenEndpoint)
	if !ok || err != nil || !validTenant(tenant) || token.RawQuery != "" {
		return nil
	}
	if !strings.EqualFold(token.Path, "/"+tenant+entraTokenPath) {
		return nil
	}
	return &entraURLs{
		root:  issuer.Scheme + "://" + issuer.Host + "/",
		token: token.Scheme + "://" + token.Host + "/",
	}
}

func (e *entraURLs) issuer(tenant string) string { return e.root + tenant + entraSuffix }

// tenantIn returns the tenant of an issuer of this server.
func (e *entraURLs) tenantIn(issuer string) string {
	return strings.TrimSuffix(strings.TrimPrefix(issuer, e.root), entraSuffix)
}

// keysOf returns the address of the keys for tokens of a tenant; empty is the one
// that is configured. Entra ID writes into a tenant's document that the keys are that
// tenant's, although most sign for all.
func (m *metadata) keysOf(tenant string) string {
	u, err := url.Parse(m.Keys)
	if tenant == "" || m.entra == nil || m.template || !validTenant(tenant) || err != nil {
		return m.Keys
	}
	path, ok := strings.CutPrefix(u.Path, "/"+m.entra.tenantIn(m.Issuer)+"/")
	if !ok {
		return m.Keys
	}
	u.Path = "/" + tenant + "/" + path
	return u.String()
}

// tokenEndpoint returns the token endpoint for a tenant; empty is the one that
// is configured.
func (m *metadata) tokenEndpoint(tenant string) (string, error) {
	switch {
	case tenant == "":
		return m.Token, nil
	case m.entra == nil:
		return "", fmt.Errorf("xoauth2: this authorization server has no tenants: %w", errors.ErrUnsupported)
	case !validTenant(tenant):
		return "", fmt.Errorf("xoauth2: the tenant is not a name or an ID: %w", errors.ErrUnsupported)
	}
	return m.entra.token + tenant + entraTokenPath, nil
}

// validTenant keeps a tenant, which becomes a part of a URL, to what an ID or a
// domain name may hold.
func validTenant(s string) bool {
	if s == "" || len(s) > 253 || s[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.'
	})
}
