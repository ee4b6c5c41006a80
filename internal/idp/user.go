package idp

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxUserRunes = 64
	userDomain   = "@contoso.test"
)

var errUserName = errors.New("the user name must be 1 to 64 printable characters")

// user is an account. There is no registration: every valid name is one.
type user struct {
	key  string // lower-cased name; what makes two names the same account
	name string // as typed
}

// parseUser accepts a bare name, or the preferred_username that an ID token
// carried, since that is what clients send back as login_hint.
func parseUser(s string) (user, error) {
	s = strings.TrimSpace(s)
	if i := len(s) - len(userDomain); i > 0 && strings.EqualFold(s[i:], userDomain) {
		s = s[:i]
	}
	if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxUserRunes {
		return user{}, errUserName
	}
	// Not printable includes the bidirectional controls, which could make one
	// name look like another.
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return user{}, errUserName
	}
	return user{key: strings.ToLower(s), name: s}, nil
}

func (u user) username() string { return u.key + userDomain }

// oid is the object ID: the same in every run, so that a fixture may hold it.
func (u user) oid() string { return nameUUID("user", u.key) }

// subject is the pairwise subject (OpenID Connect Core §8.1): stable for a user
// at one client, and different at another as with Entra ID.
func (u user) subject(clientID string) string {
	sum := sha256.Sum256([]byte("subject\x00" + clientID + "\x00" + u.key))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// nameUUID makes a version 8 UUID (RFC 9562 §5.8) from a name.
func nameUUID(kind, name string) string {
	b := sha256.Sum256([]byte(kind + "\x00" + name))
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
