package tokencache

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// Entry describes one cached token to people: it holds no token and does not name
// the account.
type Entry struct {
	// Kind is "access", "refresh" or "id".
	Kind string
	// Tenant is the directory that the token came from, if any.
	Tenant string
	// ClientID is the client that it was issued to.
	ClientID string
	// Scopes are those of an access token, as granted.
	Scopes []string
	// Resource is the resource indicator that it was asked for with, if any.
	Resource string
	// Audience is what an access or ID token is for, as far as can be told:
	// Resource, or else the first aud claim of a token that looks like a JWT.
	// Nobody verified it: decide nothing by it.
	Audience string
	// Type is the token type of an access token, "Bearer" as a rule.
	Type string
	// CachedAt is when the token was stored; zero if that is not known.
	CachedAt time.Time
	// Expires is when an access token ends; zero for others.
	Expires time.Time
}

// Entries lists the tokens: access tokens, refresh tokens, ID tokens.
func (t *Tokens) Entries() []Entry {
	d, err := t.view()
	if err != nil {
		return nil
	}
	var list []Entry
	for s, kind := range [...]string{accessTokens: "access", refreshTokens: "refresh", idTokens: "id"} {
		for _, k := range d.keyed(section(s)) {
			list = append(list, describe(kind, section(s), k.item))
		}
	}
	return list
}

func describe(kind string, s section, it *item) Entry {
	e := Entry{
		Kind:     kind,
		Tenant:   it.text(fieldRealm),
		ClientID: it.text(fieldClient),
		CachedAt: timeOf(modified(it)),
	}
	if s == refreshTokens {
		return e
	}
	e.Audience = audience(it.text(fieldSecret))
	if s == idTokens {
		return e
	}
	if e.Resource = it.qualifiers().resource; e.Resource != "" {
		e.Audience = e.Resource
	}
	e.Scopes = strings.Fields(it.text(fieldTarget))
	e.Type = it.text(fieldTokenType)
	if e.Type == "" {
		e.Type = "Bearer"
	}
	e.CachedAt = timeOf(it.unix(fieldCachedAt))
	e.Expires = timeOf(it.unix(fieldExpires))
	return e
}

func timeOf(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// audience returns the first aud claim of a token that looks like a JWT.
func audience(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Aud json.RawMessage `json:"aud"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	var one string
	if json.Unmarshal(claims.Aud, &one) == nil {
		return one
	}
	var several []string
	if json.Unmarshal(claims.Aud, &several) == nil && len(several) > 0 {
		return several[0]
	}
	return ""
}
