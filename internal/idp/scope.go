package idp

import (
	"net/url"
	"slices"
	"strings"
)

const maxScopes = 100

// parseScopes splits a scope parameter (RFC 6749 §3.3) and keeps the order and
// the case in which the client asked. Repeats are dropped.
func parseScopes(s string) ([]string, *oauthError) {
	var scopes []string
	for _, scope := range strings.Fields(s) {
		if !isScopeToken(scope) {
			return nil, badRequest("invalid_scope", "a scope has characters that RFC 6749 section 3.3 does not allow")
		}
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
		if len(scopes) > maxScopes {
			return nil, badRequest("invalid_scope", "too many scopes")
		}
	}
	return scopes, nil
}

func isScopeToken(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == '"' || r == '\\' || r > '~'
	})
}

// isVisible reports whether s is printable ASCII (VSCHAR in RFC 6749
// appendix A) of a sane length, as state and nonce must be.
func isVisible(s string) bool {
	return len(s) <= 2048 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// isOIDCScope reports whether a scope asks for claims or a refresh token
// rather than for access to an API (OpenID Connect Core §5.4, §11).
func isOIDCScope(s string) bool {
	switch s {
	case "openid", "profile", "email", "address", "phone", "offline_access":
		return true
	}
	return false
}

// audienceOf splits a scope such as api://name/Data.Read into api://name and
// Data.Read. The audience is empty for a scope that names none.
func audienceOf(scope string) (audience, short string) {
	_, rest, ok := strings.Cut(scope, "://")
	if !ok || !strings.Contains(rest, "/") {
		return "", scope
	}
	i := strings.LastIndexByte(scope, '/')
	return scope[:i], scope[i+1:]
}

// access says what an access token is for.
type access struct {
	audience string
	scopes   []string // short names, of this audience only
	granted  []string // as the client asked for them, with the OpenID Connect scopes
}

// resolveAccess finds the one audience of an access token, as the package
// comment describes. Scopes of other audiences are left out of the token: the
// client asks for those with the refresh token.
func resolveAccess(resource string, scopes []string) access {
	a := access{audience: resource}
	for _, s := range scopes {
		if aud, _ := audienceOf(s); aud != "" && a.audience == "" {
			a.audience = aud
		}
	}
	if a.audience == "" {
		a.audience = DefaultAudience
	}
	for _, s := range scopes {
		if isOIDCScope(s) {
			a.granted = append(a.granted, s)
			continue
		}
		if aud, short := audienceOf(s); aud == "" || aud == a.audience {
			a.scopes, a.granted = append(a.scopes, short), append(a.granted, s)
		}
	}
	return a
}

// firstAPIScope keeps the OpenID Connect scopes and one other: the answer of a
// server where the user consented to less than the client asked for.
func firstAPIScope(scopes []string) []string {
	var kept []string
	found := false
	for _, s := range scopes {
		if isOIDCScope(s) {
			kept = append(kept, s)
		} else if !found {
			kept, found = append(kept, s), true
		}
	}
	return kept
}

// parseResource reads the resource parameter (RFC 8707 §2): an absolute URI
// without a fragment. The RFC allows several; tokens here have one audience.
func parseResource(form url.Values) (string, *oauthError) {
	values := form["resource"]
	if len(values) == 0 {
		return "", nil
	}
	u, err := url.Parse(values[0])
	if len(values) > 1 || err != nil || u.Scheme == "" || strings.Contains(values[0], "#") || !isVisible(values[0]) {
		return "", badRequest("invalid_target", "resource must be one absolute URI without a fragment")
	}
	return values[0], nil
}
