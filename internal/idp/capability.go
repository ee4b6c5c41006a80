package idp

import (
	"encoding/json"
	"strings"
	"time"
)

// capabilityCAE is Entra ID's client capability for continuous access evaluation:
// the client can handle claims challenges.
const capabilityCAE = "cp1"

// capability looks in a claims parameter for the capability, where Entra ID's clients
// put it, and tells whether anything else is asked for.
func capability(claims string) (capable, more bool) {
	var all struct {
		AccessToken map[string]json.RawMessage `json:"access_token"`
	}
	var members map[string]json.RawMessage
	var clients struct {
		Values []string `json:"values"`
	}
	if json.Unmarshal([]byte(claims), &all) != nil || json.Unmarshal([]byte(claims), &members) != nil {
		return false, claims != ""
	}
	named, ok := all.AccessToken["xms_cc"]
	if !ok || json.Unmarshal(named, &clients) != nil {
		return false, true
	}
	for _, v := range clients.Values {
		capable = capable || strings.EqualFold(v, capabilityCAE)
	}
	return capable, len(members) > 1 || len(all.AccessToken) > 1
}

// demanding tells whether a claims parameter asks for anything beside the capability,
// which is no answer to what was demanded of the user.
func demanding(claims string) bool {
	_, more := capability(claims)
	return more
}

// capable tells whether the token request says that the client has the capability.
func (g *grant) capable() bool {
	capable, _ := capability(g.form.Get("claims"))
	return capable
}

// lifetime is how long the grant's access token is valid.
func (s *Server) lifetime(g *grant) time.Duration {
	if g.capable() {
		return s.opts.CAETokenLifetime
	}
	return s.opts.TokenLifetime
}

// end is when what is issued now ends: not before expires_in does.
func end(now time.Time, lifetime time.Duration) int64 {
	return now.Add(lifetime + time.Second - 1).Unix()
}
