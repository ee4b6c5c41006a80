package tokencache

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"math"
	"strings"
	"time"
)

// query is a request by a client for an account.
type query struct {
	Request
	clientID  string
	account   string        // empty: the application's own
	assertion string        // hash of the incoming token; empty: none
	margin    time.Duration // how long before its end a token is no longer fresh
}

// freshness tells how good a cached token is.
type freshness uint8

const (
	isNone  freshness = iota // there is none
	isStale                  // valid, but to be refreshed
	isFresh
)

// find returns the best cached token for the query, see best, but for its source.
func (s *snapshot) find(q *query, now time.Time) (Token, freshness, error) {
	e, found, err := s.best(q, now)
	if e == nil {
		return Token{}, isNone, err
	}
	return e.token(SourceNone), found, nil
}

// best returns the entry of the best cached token for the query, nil if there is
// none: a fresh one before a stale one, then the newest, then the one with the
// fewest scopes. Its secret has been decoded. The error says that the document
// does not decode. A token that was returned before costs no allocation, but for
// the hash of Claims.
func (s *snapshot) best(q *query, now time.Time) (*entry, freshness, error) {
	m := matcher{query: q, seconds: now.Unix(), nanos: time.Duration(now.Nanosecond())}
	if q.Claims != "" {
		m.claims = newClaimsKey(q.Claims)
	}
	refusedAt, err := s.refusedAt(&m)
	if err != nil {
		return nil, isNone, err
	}
	var best *entry
	found := isNone
	for i := range s.entries {
		e := &s.entries[i]
		if !m.serves(e) || e.cachedAt <= refusedAt {
			continue
		}
		f := m.grade(e)
		if f == isNone || best != nil && !e.better(f, best, found) {
			continue
		}
		best, found = e, f
	}
	if best != nil {
		if _, err := s.secret(best); err != nil {
			return nil, isNone, err
		}
	}
	return best, found, nil
}

// refusedAt is when the token that was refused was obtained, and before all times if it
// is not here: then another one has come in its place. What is as old as a token that an
// API refuses, be it for other scopes as well, was revoked along with it as a rule, and
// only the server can tell.
func (s *snapshot) refusedAt(m *matcher) (int64, error) {
	if m.Refused == "" {
		return math.MinInt64, nil
	}
	for i := range s.entries {
		e := &s.entries[i]
		if !m.serves(e) {
			continue
		}
		secret, err := s.secret(e)
		if err != nil || sameSecret(secret, m.Refused) {
			return e.cachedAt, err
		}
	}
	return math.MinInt64, nil
}

// token returns what an access token's entry says, once its secret is decoded.
func (e *entry) token(source Source) Token {
	return Token{
		AccessToken: *e.secret.Load(),
		Type:        "Bearer",
		Scopes:      e.scopes,
		Expires:     time.Unix(e.expires, 0),
		Tenant:      e.realm,
		Resource:    e.resource,
		Source:      source,
	}
}

// matcher is a query with what is the same for every entry worked out.
type matcher struct {
	*query
	claims  claimsKey
	seconds int64
	nanos   time.Duration
}

// serves tells whether the entry is an access token that answers the query,
// leaving time aside.
func (m *matcher) serves(e *entry) bool {
	if e.kind != entryAccess || e.flags&flagSpecial != 0 || e.assertion != m.assertion || e.resource != m.Resource {
		return false
	}
	if m.Tenant == "" && e.flags&flagHome == 0 || m.Tenant != "" && e.realm != m.Tenant {
		return false
	}
	if m.CAE != (e.flags&flagCAE != 0) {
		return false
	}
	if m.Claims != "" && e.claims != string(m.claims[:]) {
		return false
	}
	return covers(e.scopes, m.Scopes) && e.belongs(m.clientID, m.account)
}

// grade grades the entry by time. The margin is at most a quarter of the token's
// life, or short-lived tokens would be refreshed all the time.
func (m *matcher) grade(e *entry) freshness {
	const long = 1 << 32 // seconds; more would overflow a Duration
	left := time.Duration(min(e.expires-m.seconds, long))*time.Second - m.nanos
	if left <= 0 {
		return isNone
	}
	life := time.Duration(min(max(e.expires-e.cachedAt, 0), long)) * time.Second
	if left <= min(m.margin, life/4) || e.refreshOn != 0 && m.seconds >= e.refreshOn {
		return isStale
	}
	return isFresh
}

// belongs tells whether the entry is the client's for the account. The empty
// account is the application, and nobody's.
func (e *entry) belongs(clientID, account string) bool {
	return e.client == clientID && equalFold(e.account, account)
}

// equalFold compares without case. Account IDs and scopes (RFC 6749 §3.3) are
// ASCII, where texts of other lengths are never equal; usually they are the same.
func equalFold(a, b string) bool {
	return a == b || len(a) == len(b) && strings.EqualFold(a, b)
}

// better tells whether e, of freshness f, is preferred to best, of freshness g.
func (e *entry) better(f freshness, best *entry, g freshness) bool {
	if f != g {
		return f > g
	}
	if e.cachedAt != best.cachedAt {
		return e.cachedAt > best.cachedAt
	}
	return len(e.scopes) < len(best.scopes)
}

// claimsKey is claimsHash without the allocation.
type claimsKey [43]byte

func newClaimsKey(claims string) (k claimsKey) {
	sum := sha256.Sum256([]byte(claims))
	base64.RawURLEncoding.Encode(k[:], sum[:])
	return k
}

// secret returns the token of an entry, decoding it once.
func (s *snapshot) secret(e *entry) (Secret, error) {
	if p := e.secret.Load(); p != nil {
		return *p, nil
	}
	text, ok := unquote(s.json[e.span.offset : e.span.offset+e.span.length])
	if !ok || text == "" {
		return "", errPlain
	}
	secret := Secret(text)
	e.secret.Store(&secret) // two who decode at the same moment store the same
	return secret, nil
}

// sameSecret compares in a time that tells nothing about the contents.
func sameSecret(a, b Secret) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
