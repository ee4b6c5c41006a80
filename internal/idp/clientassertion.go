package idp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" // #nosec G505 -- x5t is a SHA-1 by its definition; it names a registered key
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	clientAssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 §2.2

	maxAssertionLifetime = 10 * time.Minute // what MSAL uses
	assertionLeeway      = 5 * time.Second  // for nbf and iat, which are whole seconds
	maxAssertionID       = 256
	minRSABits           = 2048
)

// assertionAlgorithms are those that a client may sign with.
var assertionAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256}

// clientClaims are the claims of a client assertion (RFC 7523 §3).
type clientClaims struct {
	Issuer    string           `json:"iss"`
	Subject   string           `json:"sub"`
	Audience  jwt.Audience     `json:"aud"`
	Expires   *jwt.NumericDate `json:"exp"`
	NotBefore *jwt.NumericDate `json:"nbf"`
	IssuedAt  *jwt.NumericDate `json:"iat"`
	ID        string           `json:"jti"`
}

// checkClientAssertion authenticates a client by a JWT that it signed: with the
// registered key as RFC 7523 and OpenID Connect Core §9 (private_key_jwt) have it,
// or with a certificate that the header names, as Entra ID has it.
func (s *Server) checkClientAssertion(form url.Values, rm *realm) (*Client, *oauthError) {
	if form.Get("client_assertion_type") != clientAssertionType {
		return nil, badAssertion(0, "client_assertion_type must be that of a JWT")
	}
	token, err := jwt.ParseSigned(form.Get("client_assertion"), assertionAlgorithms)
	if err != nil || len(token.Headers) != 1 {
		return nil, badAssertion(50027, "the client assertion is not a JWT signed with RS256, PS256 or ES256")
	}
	var c clientClaims
	if err := token.UnsafeClaimsWithoutVerification(&c); err != nil { // only to find the key
		return nil, badAssertion(50027, "the claims of the client assertion are malformed")
	}
	client, ok := s.clients[c.Subject]
	if !ok || c.Issuer != c.Subject || (form.Get("client_id") != "" && form.Get("client_id") != c.Subject) {
		return nil, badAssertion(700021, "iss and sub of the client assertion must be the client's ID")
	}
	key, e := client.assertionKey(token.Headers[0])
	if e != nil {
		return nil, e
	}
	if err := token.Claims(key, &c); err != nil {
		return nil, badAssertion(700027, "the signature of the client assertion is not the client's")
	}
	if e := c.check(rm); e != nil {
		return nil, e
	}
	if !s.store.firstUse(client.ID, c.ID) {
		return nil, badAssertion(0, "the client assertion was used before")
	}
	return client, nil
}

// check checks the verified claims of an assertion. There is exactly one audience:
// an assertion for two servers could be replayed by one at the other.
func (c *clientClaims) check(rm *realm) *oauthError {
	now := time.Now()
	switch {
	case len(c.Audience) != 1 || (c.Audience[0] != rm.url("token") && c.Audience[0] != rm.issuer):
		return badAssertion(700023, "aud of the client assertion must be the token endpoint or the issuer")
	case c.Expires == nil || !now.Before(c.Expires.Time()):
		return badAssertion(700024, "the client assertion has expired, or has no exp")
	case c.Expires.Time().Sub(now) > maxAssertionLifetime:
		return badAssertion(700024, "exp of the client assertion is more than 10 minutes ahead")
	case c.NotBefore != nil && c.NotBefore.Time().After(now.Add(assertionLeeway)),
		c.IssuedAt != nil && c.IssuedAt.Time().After(now.Add(assertionLeeway)):
		return badAssertion(700024, "the client assertion is not yet valid")
	case c.ID == "" || len(c.ID) > maxAssertionID || !isVisible(c.ID):
		return badAssertion(50027, "jti of the client assertion must be 1 to 256 printable ASCII characters")
	}
	return nil
}

// assertionKey is the key that an assertion with this header has to be signed
// with: the certificate's if the header names it, else the one without.
func (c *Client) assertionKey(h jose.Header) (crypto.PublicKey, *oauthError) {
	thumb1, has1 := h.ExtraHeaders["x5t"]
	thumb256, has256 := h.ExtraHeaders["x5t#S256"]
	if !has1 && !has256 {
		if c.Key == nil {
			return nil, badAssertion(700027, "the client has no key without a certificate: x5t or x5t#S256 is missing")
		}
		return c.Key, nil
	}
	if c.Certificate == nil {
		return nil, badAssertion(700027, "the client has no certificate")
	}
	sum1, sum256 := sha1.Sum(c.Certificate.Raw), sha256.Sum256(c.Certificate.Raw) // #nosec G401 -- see the import
	if (has1 && !isThumbprint(thumb1, sum1[:])) || (has256 && !isThumbprint(thumb256, sum256[:])) {
		return nil, badAssertion(700027, "the client assertion names another certificate")
	}
	if now := time.Now(); now.Before(c.Certificate.NotBefore) || now.After(c.Certificate.NotAfter) {
		return nil, badAssertion(1000502, "the client's certificate is expired or not yet valid")
	}
	return c.Certificate.PublicKey, nil
}

// isThumbprint compares a header member with a hash. It is base64url (RFC 7515
// §4.1.7 and §4.1.8), but MSAL Go writes base64, and Entra ID takes that.
func isThumbprint(v any, sum []byte) bool {
	s, _ := v.(string)
	return slices.Contains([]string{
		base64.RawURLEncoding.EncodeToString(sum), base64.URLEncoding.EncodeToString(sum), base64.StdEncoding.EncodeToString(sum),
	}, s)
}

// firstUse remembers an assertion for as long as it could be valid (RFC 7523 §3,
// jti), and reports whether it is new.
func (st *store) firstUse(clientID, id string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	key := clientID + "\x00" + id // id has no NUL
	if _, ok := st.used.get(key); ok {
		return false
	}
	st.used.put(key, struct{}{})
	return true
}

// validKey accepts the keys that the algorithms are for.
func validKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k != nil && k.N != nil && k.N.BitLen() >= minRSABits {
			return nil
		}
	case *ecdsa.PublicKey:
		if k != nil && k.Curve == elliptic.P256() {
			return nil
		}
	}
	return errors.New("a key must be an *rsa.PublicKey of at least 2048 bits or an *ecdsa.PublicKey on P-256")
}

func badAssertion(aadsts int, description string) *oauthError {
	return &oauthError{status: http.StatusUnauthorized, code: "invalid_client", description: description, aadsts: aadsts}
}
