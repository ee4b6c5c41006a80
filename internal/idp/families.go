package idp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
)

// family is everything issued from one sign-in. It ends as a whole (RFC 9700
// §4.14.2). A branch of a family is one too, see branches.go.
type family struct {
	session    session
	generation uint64 // of the only refresh token that is good
	revoked    bool
	parent     string // the family that a branch grew from, or ""
	depth      int    // how many parents there are
}

// A refresh token is "family.generation.mac". Its family therefore remembers
// one number instead of every token it ever issued, and still tells a token
// that was used before from one that was never issued.

func (st *store) refreshToken(familyID string, generation uint64) string {
	body := familyID + "." + strconv.FormatUint(generation, 10)
	return body + "." + st.refreshMAC(body)
}

func (st *store) refreshMAC(body string) string {
	mac := hmac.New(sha256.New, st.refreshKey)
	mac.Write([]byte(body))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// parseRefreshToken returns the parts of a token that this server issued.
func (st *store) parseRefreshToken(token string) (familyID string, generation uint64, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 || !hmac.Equal([]byte(st.refreshMAC(token[:i])), []byte(token[i+1:])) {
		return "", 0, false
	}
	familyID, number, _ := strings.Cut(token[:i], ".")
	generation, err := strconv.ParseUint(number, 10, 64)
	return familyID, generation, err == nil
}

// rotate spends a refresh token and returns its session and its successor.
//
// With keep the token is checked but not spent, and comes back itself: the
// answer of a server that issues no new refresh token (RFC 6749 §6).
func (st *store) rotate(token, clientID string, keep bool) (session, string, *oauthError) {
	familyID, generation, ok := st.parseRefreshToken(token)
	if !ok {
		return session{}, "", invalidGrant(9002313, "the refresh token was not issued by this server")
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	f, ok := st.families.get(familyID)
	if !ok || f.session.clientID != clientID {
		return session{}, "", invalidGrant(70000, "the refresh token has expired or belongs to another client")
	}
	if generation != f.generation {
		// Counted even if the family has ended already: the counter is there to
		// find clients that present a spent token, however often they do.
		st.stats.RefreshReused++
		st.revokeLocked(st.rootLocked(familyID))
		return session{}, "", invalidGrant(70043, "the refresh token was used before; every token of its sign-in is revoked")
	}
	if !st.aliveLocked(familyID) {
		return session{}, "", invalidGrant(50173, "the refresh token was revoked")
	}
	if claims, ok := st.demands.get(f.session.user.key); ok {
		return session{}, "", interactionRequired(claims)
	}
	st.touchLocked(familyID)
	if !keep {
		f.generation++
		token = st.refreshToken(familyID, f.generation)
	}
	return f.session, token, nil
}

// alive reports whether tokens of a family are good.
func (st *store) alive(familyID string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.aliveLocked(familyID)
}

// revokeFamily ends a family on behalf of a client (RFC 7009 §2.1). It returns
// false if the family belongs to another client, and true if there is none.
func (st *store) revokeFamily(familyID, clientID string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if f, ok := st.families.get(familyID); ok {
		if f.session.clientID != clientID {
			return false
		}
		st.revokeLocked(familyID)
	}
	return true
}

// revokeUser ends every family of a user and returns how many there were.
// Branches are not counted.
func (st *store) revokeUser(u user) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	n := 0
	st.families.each(func(f *family) {
		if f.session.user.key == u.key && st.revokeLocked(f.session.familyID) {
			n++
		}
	})
	return n
}

// revokeLocked reports whether it ended a sign-in's family just now. The family
// stays, marked, so that its tokens keep being recognised.
func (st *store) revokeLocked(familyID string) bool {
	f, ok := st.families.get(familyID)
	if !ok || f.revoked {
		return false
	}
	f.revoked = true
	if f.parent != "" {
		return false
	}
	st.stats.FamiliesRevoked++
	return true
}
