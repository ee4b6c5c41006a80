package main

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// seen is what an API says of the token that it was called with: never the token.
type seen struct {
	User     string    `json:"user"`   // whose name the call is in
	Client   string    `json:"client"` // who made it
	Audience string    `json:"audience"`
	Scopes   []string  `json:"scopes"`
	Expires  time.Time `json:"expires_at"`
}

// spent is what a call has cost the caller.
type spent struct {
	Source  string  `json:"source"` // where the token came from: l1, provider or server
	TokenMS float64 `json:"token_ms"`
	CallMS  float64 `json:"call_ms"`
}

// hop is one call of the chain.
type hop struct {
	API string `json:"api"`
	seen
	spent
}

// seenIn describes the token of a request that has passed RequireBearer. Its
// signature has been checked, so what else it says may be believed: the name of its
// user, for people to read, and its client. An API decides by the scopes and the
// account of the assertion.
func seenIn(a tokencache.Assertion, audience string) seen {
	s := seen{User: "somebody", Audience: audience, Scopes: a.Scopes(), Expires: a.Expires().UTC()}
	var claims struct {
		Name     string `json:"name"`
		ClientID string `json:"client_id"` // RFC 9068
		Party    string `json:"azp"`       // Microsoft Entra ID
	}
	parts := strings.Split(string(a.Token()), ".")
	if len(parts) != 3 {
		return s
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return s
	}
	if claims.Name != "" {
		s.User = claims.Name
	}
	if s.Client = claims.ClientID; s.Client == "" {
		s.Client = claims.Party
	}
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
