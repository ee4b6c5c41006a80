package idp

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// realm is one of the two issuers that a server answers as.
type realm struct {
	issuer        string
	entra         bool
	tenant        string // "" for the plain issuer
	base          string // URL before /authorize and its neighbours
	pattern       string // the same as a path pattern of http.ServeMux
	discoveryPath string // a pattern
	keysPath      string // a pattern
	keysURL       string
	device        string // name of the device authorization endpoint
}

func newRealms(url, tenant string) (plain, entra *realm) {
	plain = &realm{
		issuer: url, base: url, device: "device_authorization",
		discoveryPath: "/.well-known/openid-configuration", keysPath: "/keys", keysURL: url + "/keys",
	}
	root := url + "/" + tenant
	entra = &realm{
		issuer: root + "/v2.0", entra: true, tenant: tenant, device: "devicecode",
		base: root + "/oauth2/v2.0", pattern: "/{tenant}/oauth2/v2.0",
		discoveryPath: "/{tenant}/v2.0/.well-known/openid-configuration",
		keysPath:      "/{tenant}/discovery/v2.0/keys", keysURL: root + "/discovery/v2.0/keys",
	}
	return plain, entra
}

func (rm *realm) path(endpoint string) string { return rm.pattern + "/" + endpoint }
func (rm *realm) url(endpoint string) string  { return rm.base + "/" + endpoint }

func (s *Server) isIssuer(iss string) bool {
	return iss == s.plain.issuer || iss == s.entra.issuer
}

// inTenant refuses paths with a tenant that is not this server's, in the way
// Entra ID does. Tenant IDs are compared without regard to case, as there.
func (s *Server) inTenant(rm *realm, next realmHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rm.entra && !strings.EqualFold(r.PathValue("tenant"), rm.tenant) {
			e := badRequest("invalid_tenant", "the tenant was not found")
			e.aadsts = 90002
			writeError(w, r, e)
			return
		}
		next(w, r, rm)
	})
}

// metadata is the discovery document: OpenID Connect Discovery 1.0 §3, RFC 8414
// §2, RFC 8628 §4, RFC 9207 §3, OpenID Connect RP-Initiated Logout 1.0 §2.1 and OpenID Connect
// Back-Channel Logout 1.0 §2.1.
type metadata struct {
	Issuer                   string                    `json:"issuer"`
	Authorization            string                    `json:"authorization_endpoint"`
	Token                    string                    `json:"token_endpoint"`
	Keys                     string                    `json:"jwks_uri"`
	Userinfo                 string                    `json:"userinfo_endpoint"`
	Device                   string                    `json:"device_authorization_endpoint"`
	Revocation               string                    `json:"revocation_endpoint"`
	EndSession               string                    `json:"end_session_endpoint"`
	ResponseTypes            []string                  `json:"response_types_supported"`
	ResponseModes            []string                  `json:"response_modes_supported"`
	GrantTypes               []string                  `json:"grant_types_supported"`
	Scopes                   []string                  `json:"scopes_supported"`
	SubjectTypes             []string                  `json:"subject_types_supported"`
	IDTokenAlgorithms        []string                  `json:"id_token_signing_alg_values_supported"`
	TokenAuthMethods         []string                  `json:"token_endpoint_auth_methods_supported"`
	RevocationAuthMethods    []string                  `json:"revocation_endpoint_auth_methods_supported"`
	TokenAuthAlgorithms      []jose.SignatureAlgorithm `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuthAlgorithms []jose.SignatureAlgorithm `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	ChallengeMethods         []string                  `json:"code_challenge_methods_supported"`
	Claims                   []string                  `json:"claims_supported"`
	ClaimsParameter          bool                      `json:"claims_parameter_supported"`
	RequestParameter         bool                      `json:"request_parameter_supported"`
	RequestURIParameter      bool                      `json:"request_uri_parameter_supported"` // true if absent
	IssParameter             bool                      `json:"authorization_response_iss_parameter_supported"`
	BackChannel              bool                      `json:"backchannel_logout_supported"`
	BackChannelSession       bool                      `json:"backchannel_logout_session_supported"`
}

func (s *Server) discovery(w http.ResponseWriter, _ *http.Request, rm *realm) {
	methods := []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"}
	writeJSON(w, http.StatusOK, metadata{
		Issuer:        rm.issuer,
		Authorization: rm.url("authorize"), Token: rm.url("token"), Keys: rm.keysURL,
		Userinfo: rm.url("userinfo"), Revocation: rm.url("revoke"), EndSession: rm.url("logout"), Device: rm.url(rm.device),
		ResponseTypes:     []string{"code"},
		ResponseModes:     []string{"query"},
		GrantTypes:        s.grantTypes(),
		Scopes:            []string{"openid", "profile", "offline_access"},
		SubjectTypes:      []string{"pairwise"},
		IDTokenAlgorithms: []string{string(jose.RS256)},
		TokenAuthMethods:  methods, RevocationAuthMethods: methods,
		TokenAuthAlgorithms: assertionAlgorithms, RevocationAuthAlgorithms: assertionAlgorithms,
		ChallengeMethods: []string{"S256"},
		Claims: []string{
			"iss", "aud", "sub", "oid", "tid", "preferred_username", "name",
			"nonce", "iat", "nbf", "exp", "auth_time", "sid",
		},
		ClaimsParameter: true,
		IssParameter:    true,
		BackChannel:     true, BackChannelSession: true,
	})
}

func (s *Server) grantTypes() []string {
	types := []string{"authorization_code", "refresh_token", "client_credentials", grantOnBehalfOf, grantTokenExchange, grantDeviceCode}
	if len(s.opts.Passwords) > 0 {
		types = append(types, grantPassword)
	}
	return types
}

// tenantKey is a key that says whose it is, as Entra ID's do.
type tenantKey struct {
	jose.JSONWebKey
	issuer string
}

// MarshalJSON adds the member issuer.
func (k tenantKey) MarshalJSON() ([]byte, error) {
	b, err := k.JSONWebKey.MarshalJSON()
	if err != nil {
		return nil, err
	}
	members := make(map[string]any)
	if err := json.Unmarshal(b, &members); err != nil {
		return nil, err
	}
	members["issuer"] = k.issuer
	return json.Marshal(members)
}

func (s *Server) jwks(w http.ResponseWriter, _ *http.Request, rm *realm) {
	var key any = s.keys.public
	if rm.entra {
		key = tenantKey{s.keys.public, rm.issuer}
	}
	writeJSON(w, http.StatusOK, map[string]any{"keys": []any{key}})
}
