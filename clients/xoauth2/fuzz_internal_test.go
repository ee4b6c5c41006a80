package xoauth2

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What comes from an API's response: no input makes it fail, and what it yields
// is a claims request or nothing.
func FuzzChallenge(f *testing.F) {
	for _, header := range []string{
		"", `Bearer error="invalid_token"`, `Bearer realm="a, b=\"c\"", error=invalid_token`, `Basic realm="x", Bearer a="b`,
		`Negotiate dG9r/==, Bearer a=b`, `Bearer error="insufficient_claims", claims="eyJhIjp7fX0="`, "Bearer a=b, \x00, error=c",
	} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		claims, refused := refusal(http.Header{"Www-Authenticate": {header, header}})
		if claims != "" && !refused {
			t.Error("claims are demanded of a token that was not refused")
		}
		if claims != "" && !isJSONObject(claims) {
			t.Errorf("the claims are no JSON object: %q", claims)
		}
		for _, c := range parseChallenges([]string{header}) {
			if c.scheme == "" || !strings.Contains(header, c.scheme) {
				t.Errorf("the scheme %q is not in the header", c.scheme)
			}
		}
	})
}

// What comes from a session, which may be a cookie: only what Encode writes is
// good for a sign-in.
func FuzzParseSignIn(f *testing.F) {
	long := strings.Repeat("a", 43)
	f.Add(SignIn{&pending{Issuer: "https://issuer.example", State: long, Nonce: long, Verifier: long, Scopes: []string{"a"}, Started: 1}}.Encode())
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"x"}`)))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSignIn(text)
		if err != nil {
			if s.pending != nil || err.Error() != errSignIn.Error() {
				t.Errorf("refused with %v", err)
			}
			return
		}
		again, err := ParseSignIn(s.Encode())
		if err != nil || again.pending.State != s.pending.State || len(s.pending.State) < 43 || s.pending.Issuer == "" {
			t.Errorf("%+v comes back as %v, %v", *s.pending, again, err)
		}
	})
}

// What comes from the authorization server.
func FuzzTokenResponse(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","scope":"a b"}`,
		`{"expires_in":"3600","refresh_in":1e300}`, `{"expires_in":-1}`, `{"error":"invalid_grant"}`, `null`, `[]`,
	} {
		f.Add(body, "eyJ1aWQiOiJhIiwidXRpZCI6ImIifQ")
	}
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body, clientInfo string) {
		var r tokenResponse
		if json.Unmarshal([]byte(body), &r) != nil {
			return
		}
		g := r.grant(began, []string{"a"})
		if !g.Expires.IsZero() && (g.Expires.Before(began) || g.Expires.After(began.AddDate(1000, 0, 0))) {
			t.Errorf("a token expires at %v", g.Expires)
		}
		if id := parseHomeAccount(clientInfo).id(); id != "" && (strings.HasPrefix(id, ".") || strings.HasSuffix(id, ".")) {
			t.Errorf("the account ID %q lacks a part", id)
		}
	})
}
