package tokencache

import "context"

// Server is the authorization server, as a client of it (see the package
// xoauth2) shows it to the cache. It is safe for concurrent use.
type Server interface {
	// Refresh obtains an access token for the request: from the refresh token,
	// or, if that is empty, by the means the application or its caller has
	// itself (client credentials, on-behalf-of). The cache calls it for one
	// request of a partition at a time, on a context that outlives the HTTP
	// request; the implementation sets a timeout.
	//
	// Its error is or wraps [ErrInvalidGrant], *[InteractionRequiredError] or
	// *[ServerError]; any other reaches the caller as it is. A refresh token
	// returned along with an error is stored, and nothing else of the grant: a
	// server that has rotated the token will not accept the old one again, even if
	// the rest of its answer was bad.
	Refresh(ctx context.Context, refreshToken Secret, req Request) (Grant, error)

	// Revoke asks the server to revoke the refresh token (RFC 7009). A server
	// that offers no revocation is not an error.
	Revoke(ctx context.Context, refreshToken Secret) error
}
