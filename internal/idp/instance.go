package idp

import (
	"net/http"
	"net/url"
	"strings"
)

// instanceResponse is what Entra ID answers to instance discovery, as MSAL reads
// it. It is in no standard.
type instanceResponse struct {
	TenantDiscovery string             `json:"tenant_discovery_endpoint"`
	Version         string             `json:"api-version"`
	Metadata        []instanceMetadata `json:"metadata"`
}

// instanceMetadata says which host names are the same cloud.
type instanceMetadata struct {
	PreferredNetwork string   `json:"preferred_network"`
	PreferredCache   string   `json:"preferred_cache"`
	Aliases          []string `json:"aliases"`
}

const instanceVersion = "1.1"

// instanceDiscovery answers whether an authority is one of this server. MSAL asks
// login.microsoftonline.com unless it is told otherwise, with the authority in a
// parameter, so that the Host of the request does not matter. Whether the tenant
// exists is for the endpoint in the answer to say, as with Entra ID.
func (s *Server) instanceDiscovery(w http.ResponseWriter, r *http.Request, _ *realm) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(q["api-version"]) != 1 || len(q["authorization_endpoint"]) != 1 || q.Get("api-version") != instanceVersion {
		e := badRequest("invalid_request", "api-version must be 1.1, and authorization_endpoint is required")
		e.aadsts = 900144
		writeError(w, r, e)
		return
	}
	tenant, ok := s.authorityTenant(q.Get("authorization_endpoint"))
	if !ok {
		e := badRequest("invalid_instance", "unknown or invalid instance")
		e.aadsts = 50049
		writeError(w, r, e)
		return
	}
	_, host, _ := strings.Cut(s.url, "://")
	writeJSON(w, http.StatusOK, instanceResponse{
		TenantDiscovery: s.url + "/" + tenant + "/v2.0/.well-known/openid-configuration",
		Version:         instanceVersion,
		Metadata:        []instanceMetadata{{PreferredNetwork: host, PreferredCache: host, Aliases: []string{host}}},
	})
}

// authorityTenant returns the tenant of an authorization endpoint of this server.
func (s *Server) authorityTenant(endpoint string) (string, bool) {
	u, err := url.Parse(endpoint)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !strings.EqualFold(u.Scheme+"://"+u.Host, s.url) {
		return "", false
	}
	tenant, path, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return tenant, path == "oauth2/v2.0/authorize" && validTenant(tenant)
}
