package idp

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	codeLifetime   = time.Minute
	codeMemory     = 10 * time.Minute // how long a replay is recognised
	familyLifetime = 24 * time.Hour
	maxRemembered  = 50_000
)

// Stats counts what a server was asked and did since it started. Its JSON form
// is the answer of GET /control/stats.
type Stats struct {
	// TokenRequests counts requests to the token endpoints by their grant type,
	// whatever became of them: refused, faulted and abandoned ones too.
	TokenRequests TokenRequests `json:"token_requests"`

	// RefreshReused counts refresh tokens that came again after they had been
	// replaced. A correct client under strict rotation leaves it at 0.
	RefreshReused int64 `json:"refresh_reused"`

	// FamiliesRevoked counts families that ended for any reason: reuse, a
	// replayed code, the revocation endpoint or [Server.RevokeUser].
	FamiliesRevoked int64 `json:"families_revoked"`

	// Revocations counts requests that the revocation endpoint accepted, those
	// for unknown tokens included.
	Revocations int64 `json:"revocations"`

	// SignIns counts codes issued by the authorization endpoint.
	SignIns int64 `json:"sign_ins"`

	// APIRequests counts requests to the protected API, whatever the answer.
	APIRequests int64 `json:"api_requests"`
}

// TokenRequests counts token requests by grant type.
type TokenRequests struct {
	AuthorizationCode int64 `json:"authorization_code"`
	RefreshToken      int64 `json:"refresh_token"`
	ClientCredentials int64 `json:"client_credentials"`
}

// store is everything a server remembers. Each method is one atomic step: that
// a code is spent once, and a refresh token rotated once, rests on mu alone.
type store struct {
	refreshKey []byte // authenticates refresh tokens; fixed after newStore

	mu       sync.Mutex // guards what follows
	codes    *bounded[*code]
	families *bounded[*family]
	demands  *bounded[string] // claims demanded, by user key
	stats    Stats
}

// session is what one sign-in established. It does not change afterwards.
type session struct {
	familyID string
	clientID string
	user     user
	scopes   []string
	resource string
	nonce    string
	sid      string
	authTime time.Time
}

func newStore() *store {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand documents that it crashes instead
	return &store{
		refreshKey: key,
		codes:      newBounded[*code](maxRemembered, codeMemory),
		families:   newBounded[*family](maxRemembered, familyLifetime),
		demands:    newBounded[string](maxRemembered, familyLifetime),
	}
}

// count changes the counters under the lock.
func (st *store) count(f func(*Stats)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f(&st.stats)
}

func (st *store) snapshot() Stats {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.stats
}

// demand makes refreshes of a user fail until a sign-in satisfies it.
func (st *store) demand(u user, claims string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.demands.put(u.key, claims)
}
