package tokencache

import "time"

// Token is an access token as the cache hands it out.
type Token struct {
	// AccessToken is the token. Present it with Type in an Authorization header
	// (RFC 6750 §2.1).
	AccessToken Secret
	// Type is the token type, "Bearer" as a rule.
	Type string
	// Scopes are those granted. The slice is shared: do not change it.
	Scopes []string
	// Expires is when the token ends. Unless the authorization server is down,
	// it is further away than the refresh margin.
	Expires time.Time
	// Tenant is the directory that the token came from, if any.
	Tenant string
	// Resource is the resource indicator that was asked for, if any.
	Resource string
	// Source tells where this answer came from.
	Source Source
}

// Source tells where an answer came from.
type Source uint8

const (
	// SourceNone means that there was no answer.
	SourceNone Source = iota
	// SourceL1 means memory of this process.
	SourceL1
	// SourceProvider means the storage provider.
	SourceProvider
	// SourceServer means the authorization server.
	SourceServer
)

// String returns "none", "l1", "provider" or "server".
func (s Source) String() string {
	switch s {
	case SourceL1:
		return "l1"
	case SourceProvider:
		return "provider"
	case SourceServer:
		return "server"
	}
	return "none"
}
