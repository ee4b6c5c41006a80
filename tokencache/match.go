package tokencache

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
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

// find returns the best cached token for the query: a fresh one before a stale
// one, then the newest, then the one with the fewest scopes. The error says that
// the document does not decode. A token that was returned before costs no
// allocation, but for the hash of Claims.
func (s *snapshot) find(q *query, now time.Time) (Token, freshness, error) {
	var claims claimsKey
	if q.Claims != "" {
		claims = newClaimsKey(q.Claims)
	}
	var best *entry
	found := isNone
	for i := range s.entries {
		e := &s.entries[i]
		if !e.serves(q, &claims) {
			continue
		}
		f := e.freshness(q.margin, now)
		if f == isNone || best != nil && !e.better(f, best, found) {
			continue
		}
		if q.Refused != "" {
			secret, err := s.secret(e)
			if err != nil {
				return Token{}, isNone, err
			}
			if sameSecret(secret, q.Refused) {
				continue
			}
		}
		best, found = e, f
	}
	if best == nil {
		return Token{}, isNone, nil
	}
	secret, err := s.secret(best)
	if err != nil {
		return Token{}, isNone, err
	}
	return Token{
		AccessToken: secret,
		Type:        "Bearer",
		Scopes:      best.scopes,
		Expires:     time.Unix(best.expires, 0),
		Tenant:      best.realm,
		Resource:    best.resource,
	}, found, nil
}

// serves tells whether the entry is an access token that answers the query,
// leaving time aside.
func (e *entry) serves(q *query, claims *claimsKey) bool {
	if e.kind != entryAccess || e.flags&flagSpecial != 0 || !e.belongs(q.clientID, q.account) ||
		e.assertion != q.assertion || e.resource != q.Resource {
		return false
	}
	if q.Tenant == "" && e.flags&flagHome == 0 || q.Tenant != "" && e.realm != q.Tenant {
		return false
	}
	if q.Claims != "" && e.claims != string(claims[:]) {
		return false
	}
	return covers(e.scopes, q.Scopes)
}

// belongs tells whether the entry is the client's for the account. The empty
// account is the application, and nobody's.
func (e *entry) belongs(clientID, account string) bool {
	return e.client == clientID && strings.EqualFold(e.account, account)
}

// freshness grades the entry by time. The margin is at most a quarter of the
// token's life, or short-lived tokens would be refreshed all the time.
func (e *entry) freshness(margin time.Duration, now time.Time) freshness {
	left := time.Unix(e.expires, 0).Sub(now)
	if left <= 0 {
		return isNone
	}
	if life := time.Duration(e.expires-e.cachedAt) * time.Second; e.cachedAt != 0 && margin > life/4 {
		margin = max(life/4, 0)
	}
	if left <= margin || e.refreshOn != 0 && now.Unix() >= e.refreshOn {
		return isStale
	}
	return isFresh
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

// covers tells whether a token with the granted scopes serves a request for the
// asked ones; see Request.Scopes.
func covers(granted, asked []string) bool {
	strict := onlySignIn(asked)
	for _, scope := range asked {
		if (strict || !isSignInScope(scope)) && !hasScope(granted, scope) {
			return false
		}
	}
	return true
}

// missingScopes returns what covers misses.
func missingScopes(asked, granted []string) []string {
	var missing []string
	strict := onlySignIn(asked)
	for _, scope := range asked {
		if (strict || !isSignInScope(scope)) && !hasScope(granted, scope) {
			missing = append(missing, scope)
		}
	}
	return missing
}

func hasScope(granted []string, scope string) bool {
	for _, g := range granted {
		if strings.EqualFold(g, scope) {
			return true
		}
	}
	return false
}

// onlySignIn tells whether nothing but sign-in scopes is asked for.
func onlySignIn(asked []string) bool {
	return !slices.ContainsFunc(asked, func(s string) bool { return !isSignInScope(s) })
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

// refreshToken returns the account's refresh token for the client: its own, else
// one of the family that the document says it is in. Those of an incoming
// assertion, and those bound to something this library does not know, are for
// nobody else to spend.
func (s *snapshot) refreshToken(clientID, account string) (Secret, bool, error) {
	e := s.refreshEntry(clientID, account)
	if e == nil {
		return "", false, nil
	}
	secret, err := s.secret(e)
	return secret, err == nil, err
}

func (s *snapshot) refreshEntry(clientID, account string) *entry {
	var best *entry
	for i := range s.entries {
		e := &s.entries[i]
		if e.kind != entryRefresh || e.flags&flagSpecial != 0 || e.assertion != "" || !strings.EqualFold(e.account, account) {
			continue
		}
		own := e.client == clientID
		if !own && !(e.family == familyID && s.inFamily(clientID)) {
			continue
		}
		if best == nil || own != (best.client == clientID) && own || own == (best.client == clientID) && e.cachedAt > best.cachedAt {
			best = e
		}
	}
	return best
}

// familyID is the one family of clients there is: Microsoft's own.
const familyID = "1"

func (s *snapshot) inFamily(clientID string) bool {
	for i := range s.entries {
		if e := &s.entries[i]; e.kind == entryClient && e.client == clientID && e.family == familyID {
			return true
		}
	}
	return false
}

// usable tells whether the client has anything to work with for the account: a
// refresh token, or an access token that has not expired.
func (s *snapshot) usable(clientID, account string, now time.Time) bool {
	for i := range s.entries {
		e := &s.entries[i]
		if e.kind == entryAccess && e.flags&flagSpecial == 0 && e.belongs(clientID, account) && e.expires > now.Unix() {
			return true
		}
	}
	return s.refreshEntry(clientID, account) != nil
}

// lastExpiry is when the last access token ends, zero if there is none.
func (s *snapshot) lastExpiry() time.Time {
	var last int64
	for i := range s.entries {
		if e := &s.entries[i]; e.kind == entryAccess {
			last = max(last, e.expires)
		}
	}
	if last == 0 {
		return time.Time{}
	}
	return time.Unix(last, 0)
}
