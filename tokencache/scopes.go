package tokencache

import "strings"

// covers tells whether a token with the granted scopes serves a request for the
// asked ones; see Request.Scopes.
func covers(granted, asked []string) bool {
	for _, scope := range asked {
		if !hasScope(granted, scope) && !dispensable(scope, asked) {
			return false
		}
	}
	return true
}

// dispensable tells whether a token serves a request for the asked scopes though
// it was not granted this one of them.
func dispensable(scope string, asked []string) bool {
	if strings.EqualFold(scope, "offline_access") {
		return true // servers that grant it often do not say so
	}
	return isSignInScope(scope) && !onlySignIn(asked)
}

// missingScopes returns the scopes for which covers finds that a token does not
// serve a request.
func missingScopes(asked, granted []string) []string {
	var missing []string
	for _, scope := range asked {
		if !hasScope(granted, scope) && !dispensable(scope, asked) {
			missing = append(missing, scope)
		}
	}
	return missing
}

// splitScopes returns the scopes one by one, where some are joined by spaces as
// in a scope parameter.
func splitScopes(scopes []string) []string {
	for _, s := range scopes {
		if s == "" || strings.ContainsAny(s, " \t\r\n") {
			return strings.Fields(strings.Join(scopes, " "))
		}
	}
	return scopes
}

func hasScope(granted []string, scope string) bool {
	for _, g := range granted {
		if equalFold(g, scope) {
			return true
		}
	}
	return false
}

// onlySignIn tells whether nothing but sign-in scopes is asked for.
func onlySignIn(asked []string) bool {
	for _, scope := range asked {
		if !isSignInScope(scope) {
			return false
		}
	}
	return true
}

// isSignInScope tells whether the scope is about signing in (OpenID Connect Core
// §5.4 and §11) and not about an API.
func isSignInScope(scope string) bool {
	switch len(scope) {
	case len("openid"):
		return strings.EqualFold(scope, "openid")
	case len("profile"):
		return strings.EqualFold(scope, "profile")
	case len("email"):
		return strings.EqualFold(scope, "email")
	case len("offline_access"):
		return strings.EqualFold(scope, "offline_access")
	}
	return false
}
