package idp

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"time"
)

// code is an authorization code and what it was issued for.
type code struct {
	issuer      string
	redirectURI string
	challenge   string // base64url of SHA-256, as the client sent it
	issued      time.Time
	spent       bool
	session     session
}

// redemption is a request to exchange a code (RFC 6749 §4.1.3, RFC 7636 §4.5).
type redemption struct {
	value       string
	issuer      string
	clientID    string
	redirectURI string
	verifier    string
}

// marker begins every code and refresh token, so that a test can look for secrets
// in what a program writes, and nobody takes them for those of a real server.
const marker = "marker-"

// issueCode stores c under a new random code. A sign-in that came with a
// claims parameter also meets what was demanded of the user.
func (st *store) issueCode(c *code, claims bool) string {
	value := marker + rand.Text()
	c.issued = time.Now()
	c.session.authTime = c.issued
	c.session.familyID = marker + rand.Text()

	st.mu.Lock()
	defer st.mu.Unlock()
	st.codes.put(value, c)
	st.stats.SignIns++
	if claims {
		st.demands.remove(c.session.user.key)
	}
	return value
}

// redeem spends a code and starts its family. Both happen under one lock, so
// that a replay which overtakes the first answer still finds a family to end.
func (st *store) redeem(r redemption) (session, *oauthError) {
	st.mu.Lock()
	defer st.mu.Unlock()
	c, ok := st.codes.get(r.value)
	if !ok || c.session.clientID != r.clientID || c.issuer != r.issuer {
		// Another client's request must not spend the code of its owner.
		return session{}, invalidGrant(70000, "the code is not known to this issuer for this client")
	}
	if c.spent {
		// RFC 6749 §4.1.2: the code may have been stolen, and nobody can say
		// whether the thief or the owner came first.
		st.revokeLocked(c.session.familyID)
		return session{}, invalidGrant(54005, "the code was already redeemed; tokens issued from it are revoked")
	}
	c.spent = true // from here on: a wrong guess costs the code
	switch {
	case time.Since(c.issued) > codeLifetime:
		return session{}, invalidGrant(70008, "the code has expired")
	case c.redirectURI != r.redirectURI:
		return session{}, invalidGrant(50011, "redirect_uri differs from that of the authorization request")
	case !verifyPKCE(c.challenge, r.verifier):
		return session{}, invalidGrant(501481, "code_verifier does not match the code_challenge")
	}
	st.families.put(c.session.familyID, &family{session: c.session})
	return c.session, nil
}

// verifyPKCE checks a verifier against an S256 challenge (RFC 7636 §4.6).
func verifyPKCE(challenge, verifier string) bool {
	if len(verifier) < 43 || len(verifier) > 128 || strings.ContainsFunc(verifier, notUnreserved) {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	got := base64.RawURLEncoding.EncodeToString(sum[:])
	return subtle.ConstantTimeCompare([]byte(got), []byte(challenge)) == 1
}

// validChallenge reports whether s can be the base64url of a SHA-256.
func validChallenge(s string) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(sum) == sha256.Size && !strings.ContainsAny(s, "\r\n")
}

func notUnreserved(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("-._~", r)
}
