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

	// OnBehalfOfDistinct is how many different things were asked for on behalf
	// of users, and OnBehalfOfMost how often the one that was asked for most. Two
	// requests ask for the same if they have the same assertion, the same scopes
	// in whatever order, and the same claims and resource. Like TokenRequests
	// they count every request, and agree with it in a test where each thing is
	// asked for once: OnBehalfOfMost is 1, and OnBehalfOfDistinct is
	// TokenRequests.OnBehalfOf. After 50 000 different ones, the one that was
	// asked for longest ago is forgotten and would count as new.
	OnBehalfOfDistinct int64 `json:"on_behalf_of_distinct"`
	OnBehalfOfMost     int64 `json:"on_behalf_of_most"`

	// TokenExchangeDistinct and TokenExchangeMost are the same for token
	// exchanges; there the subject token is the assertion, and the audience and
	// the requested token type count too.
	TokenExchangeDistinct int64 `json:"token_exchange_distinct"`
	TokenExchangeMost     int64 `json:"token_exchange_most"`

	// RefreshReused counts refresh tokens that came again after they had been
	// replaced. A correct client under strict rotation leaves it at 0.
	RefreshReused int64 `json:"refresh_reused"`

	// FamiliesRevoked counts families that ended for any reason: reuse, a
	// replayed code, the revocation endpoint or [Server.RevokeUser].
	FamiliesRevoked int64 `json:"families_revoked"`

	// Revocations counts requests that the revocation endpoint accepted, those
	// for unknown tokens included.
	Revocations int64 `json:"revocations"`

	// BackChannelLogouts counts logout tokens that clients accepted, and
	// BackChannelLogoutsFailed those that they refused, answered too late or did
	// not answer.
	BackChannelLogouts       int64 `json:"back_channel_logouts"`
	BackChannelLogoutsFailed int64 `json:"back_channel_logouts_failed"`

	// SignIns counts codes issued by the authorization endpoint, devices that users
	// signed in on, and passwords that were accepted.
	SignIns int64 `json:"sign_ins"`

	// APIRequests counts requests to the protected API, whatever the answer.
	APIRequests int64 `json:"api_requests"`
}

// TokenRequests counts token requests by grant type.
type TokenRequests struct {
	AuthorizationCode int64 `json:"authorization_code"`
	RefreshToken      int64 `json:"refresh_token"`
	ClientCredentials int64 `json:"client_credentials"`
	OnBehalfOf        int64 `json:"on_behalf_of"`
	TokenExchange     int64 `json:"token_exchange"`
	DeviceCode        int64 `json:"device_code"` // every time that a device asks
	Password          int64 `json:"password"`
}

// store is everything a server remembers. Each method is one atomic step: that
// a code is spent once, and a refresh token rotated once, rests on mu alone.
type store struct {
	refreshKey []byte // authenticates refresh tokens; fixed after newStore
	askConsent bool   // fixed before the server answers
	consented  []permission

	mu       sync.Mutex // guards what follows
	codes    *bounded[*code]
	families *bounded[*family]
	demands  *bounded[string] // claims demanded, by user key
	asked    *bounded[int64]  // how often, by askedKey
	logins   *bounded[*login] // by sid
	browsers *bounded[string] // sid, by cookie

	used      *bounded[struct{}]            // client assertions
	devices   *bounded[*device]             // by device code
	userCodes *bounded[*device]             // by bareUserCode
	consents  *bounded[map[permission]bool] // by consentKey
	stats     Stats
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
		asked:      newBounded[int64](maxRemembered, familyLifetime),
		logins:     newBounded[*login](maxRemembered, familyLifetime),
		browsers:   newBounded[string](maxRemembered, familyLifetime),
		consents:   newBounded[map[permission]bool](maxRemembered, familyLifetime),
		devices:    newBounded[*device](maxRemembered, deviceMemory),
		userCodes:  newBounded[*device](maxRemembered, deviceMemory),
		used:       newBounded[struct{}](maxRemembered, maxAssertionLifetime+time.Second),
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
