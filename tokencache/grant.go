package tokencache

import "time"

// Grant is a token response (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3) that
// a client has received and verified.
type Grant struct {
	// AccessToken is the token issued; a grant without one is an error.
	AccessToken Secret
	// TokenType is how to present it; empty means Bearer.
	TokenType string
	// Scopes are those granted; nil means those requested (RFC 6749 §5.1), and
	// at a sign-in, where the cache has seen no request, none.
	Scopes []string
	// Expires is when the access token ends; the zero time means that the
	// server did not say, and the token is then kept for five minutes.
	Expires time.Time
	// RefreshOn is when the server would like the token to be refreshed
	// (refresh_in); the zero time means that it did not say.
	RefreshOn time.Time
	// RefreshToken replaces the one that was used; empty keeps that one
	// (RFC 6749 §6).
	RefreshToken Secret
	// IDToken is the verified ID token; empty if there was none.
	IDToken Secret
	// ClientInfo is Microsoft Entra ID's client_info, as received.
	ClientInfo string
	// CAE tells that a sign-in's access token was asked for with [Request].CAE, and is
	// for such requests alone. A refresh ignores it, as it has a request.
	CAE bool
	// Family is the family of clients that may use the refresh token, as Microsoft
	// Entra ID has them for its own (foci); empty for everybody else's.
	Family string
	// SID names the user's session at the authorization server, the same for all of
	// its sign-ins and no other session's; empty if that is not known. A sign-in is
	// noted under it, at the cost of a read and a write more, for
	// [Cache.SignOutSID]; a refresh ignores it. A name of more than 256
	// bytes counts as none.
	SID string
	// Tokens is a whole cache that another library has filled, in place of all of the
	// above but SID. It is for sign-ins alone, with MSAL or to take a user over:
	// what is in it of the account and of this client is stored, and of the client's
	// refresh tokens the newest one. Nil means that there is none.
	Tokens *Tokens
	// Account is whose tokens these are. A sign-in requires it; a refresh may
	// leave it zero, and must not name another account than the partition's.
	Account Account
}

// Account is a user, as the authorization server describes them.
type Account struct {
	// ID is the home account ID, the same for one user in every tenant and
	// session: "uid.utid" of Microsoft's client_info, elsewhere the ID token's
	// sub. Never an e-mail address or a name, which pass to other people.
	ID string
	// LocalID is the user's ID in Tenant: Microsoft's oid, elsewhere sub.
	LocalID string
	// Tenant is the directory that the tokens came from (tid), empty on
	// servers without tenants.
	Tenant string
	// Username is the preferred_username, for people to read.
	Username string
	// Name is the full name, for people to read.
	Name string
}
