package tokencache

// Request names the access token that is wanted.
type Request struct {
	// Scopes are the scopes the token must have, in any order and case. A
	// cached token serves the request if it was granted at least these;
	// openid, profile and email say nothing about an access token's use and are
	// not compared, unless nothing else is asked; offline_access never is. With no
	// scopes at all any token serves, whatever API it is for.
	Scopes []string
	// Tenant is the directory the token must come from; empty means the one
	// that the user signed in to.
	Tenant string
	// Resource is the RFC 8707 resource indicator, for servers that have them;
	// empty means none. It is compared exactly.
	Resource string
	// Claims is a claims request, a JSON object (OpenID Connect Core §5.5), as
	// an API's claims challenge demands it. With claims only a token that was
	// obtained with the same text serves; without, any does, the newest first.
	Claims string
	// CAE tells the authorization server that the caller can handle the claims
	// challenges of continuous access evaluation (Microsoft's client capability
	// cp1): it may issue a token that lives for a day or more, and that APIs
	// refuse with a challenge once something has happened to the user. A token
	// obtained with it never serves a request without it, nor the reverse; they
	// share the refresh token.
	CAE bool
	// Refused is an access token that the API refused. Neither it nor an older one
	// is served: the cache answers with a newer one or asks the server.
	Refused Secret
}
