package idp

import (
	"net/http"
	"net/url"
)

const userRealmVersion = "1.0"

// userRealmResponse is what Entra ID answers to a user realm request, as MSAL reads
// it. It is in no standard.
type userRealmResponse struct {
	Version     string `json:"ver"`
	AccountType string `json:"account_type"`
	DomainName  string `json:"domain_name,omitempty"`
	Cloud       string `json:"cloud_instance_name"`
	Audience    string `json:"cloud_audience_urn"`
}

// userRealm answers where a user's password is checked. MSAL asks before it sends a
// password, at the host of its authority: with Managed it goes to the token
// endpoint, and all users of this server are so. A name that nobody can have is
// Unknown. Whether the user exists the answer does not tell.
func (s *Server) userRealm(w http.ResponseWriter, r *http.Request, _ *realm) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(q["api-version"]) != 1 || q.Get("api-version") != userRealmVersion {
		e := badRequest("invalid_request", "api-version must be 1.0")
		e.aadsts = 900144
		writeError(w, r, e)
		return
	}
	resp := userRealmResponse{
		Version: userRealmVersion, AccountType: "Unknown",
		Cloud: "microsoftonline.com", Audience: "urn:federation:MicrosoftOnline",
	}
	if _, err := parseUser(r.PathValue("user")); err == nil {
		resp.AccountType, resp.DomainName = "Managed", userDomain[1:]
	}
	writeJSON(w, http.StatusOK, resp)
}
