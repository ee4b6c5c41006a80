package xoauth2

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // #nosec G505 -- x5t is a SHA-1 by its definition (RFC 7515 §4.1.7)
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"time"
)

const (
	assertionLife = 5 * time.Minute
	minRSABits    = 2048 // RFC 7518 §3.3 and §3.5
)

// AssertionOptions are the settings of [SignAssertion]. The zero value of each
// field leaves it out.
type AssertionOptions struct {
	// Certificate is that of the key, where the server knows the key by a
	// certificate, as Microsoft Entra ID does. It is named in the header by its
	// SHA-256 (x5t#S256) and, for older servers, its SHA-1 (x5t).
	Certificate *x509.Certificate

	// KeyID is the key's name among those that are registered for the client
	// (kid, RFC 7515 §4.1.4). Some servers want it.
	KeyID string
}

// SignAssertion returns a function for [Options.ClientAssertion] that signs with a
// private key (private_key_jwt, OpenID Connect Core §9): an RSA key of at least
// 2048 bits with RS256, or with PS256 if there is a certificate, as Entra ID asks
// for; or an ECDSA key on P-256 with ES256. The key may be in a file, in an HSM or
// in a key management service: anything that is a [crypto.Signer]. A Sign that
// waits for somebody is not interrupted when the context ends.
//
// Each assertion names the client as iss and sub, the audience, a random jti, and
// is valid for 5 minutes. A server that insists on another audience, say its
// issuer, gets it from a function around this one. The function is safe for
// concurrent use if the key is. The options may be nil.
//
// The error says what is wrong with the client ID, the key or the certificate; the
// function's are the key's, and the context's.
func SignAssertion(clientID string, key crypto.Signer, o *AssertionOptions) (func(ctx context.Context, audience string) (string, error), error) {
	if o == nil {
		o = &AssertionOptions{}
	}
	if clientID == "" || key == nil {
		return nil, errors.New("xoauth2: SignAssertion needs a client ID and a key")
	}
	s := &assertionSigner{clientID: clientID, key: key, header: assertionHeader{Type: "JWT", KeyID: o.KeyID}}
	if err := s.choose(key.Public(), o.Certificate != nil); err != nil {
		return nil, err
	}
	if o.Certificate != nil {
		if err := s.name(o.Certificate); err != nil {
			return nil, err
		}
	}
	return s.sign, nil
}

// assertionSigner signs client assertions. It does not use go-jose's signer for
// keys of this kind, which has PS256 with the longest salt there is: RFC 7518
// §3.5 wants that of the hash's length, and key management services mind.
type assertionSigner struct {
	clientID string
	key      crypto.Signer
	options  crypto.SignerOpts
	header   assertionHeader
}

// assertionHeader is the JOSE header (RFC 7515 §4.1).
type assertionHeader struct {
	Algorithm  string `json:"alg"`
	Type       string `json:"typ"`
	KeyID      string `json:"kid,omitempty"`
	Thumbprint string `json:"x5t,omitempty"`
	SHA256     string `json:"x5t#S256,omitempty"`
}

// assertionClaims are the claims of RFC 7523 §3. Times are seconds since 1970.
type assertionClaims struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Audience  string `json:"aud"`
	ID        string `json:"jti"`
	IssuedAt  int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`
}

// choose sets the algorithm for a key.
func (s *assertionSigner) choose(public crypto.PublicKey, certificate bool) error {
	s.options = crypto.SHA256
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N == nil || k.N.BitLen() < minRSABits {
			return errors.New("xoauth2: SignAssertion needs an RSA key of at least 2048 bits")
		}
		s.header.Algorithm = "RS256"
		if certificate {
			s.header.Algorithm = "PS256"
			s.options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		}
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			s.header.Algorithm = "ES256"
			return nil
		}
	}
	return errors.New("xoauth2: SignAssertion needs an RSA key, or an ECDSA key on the curve P-256")
}

// name puts the certificate into the header.
func (s *assertionSigner) name(c *x509.Certificate) error {
	public, ok := s.key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(c.PublicKey) {
		return errors.New("xoauth2: the certificate is that of another key")
	}
	sum1, sum256 := sha1.Sum(c.Raw), sha256.Sum256(c.Raw) // #nosec G401 -- see the import
	s.header.Thumbprint = base64.RawURLEncoding.EncodeToString(sum1[:])
	s.header.SHA256 = base64.RawURLEncoding.EncodeToString(sum256[:])
	return nil
}

// sign returns an assertion in the compact form of RFC 7515 §7.1.
func (s *assertionSigner) sign(ctx context.Context, audience string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	now := time.Now()
	header, err1 := json.Marshal(s.header)
	claims, err2 := json.Marshal(assertionClaims{
		Issuer: s.clientID, Subject: s.clientID, Audience: audience, ID: random(),
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(assertionLife).Unix(),
	})
	if err := errors.Join(err1, err2); err != nil { // texts and numbers cannot fail
		return "", err
	}
	input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(input))
	signature, err := s.key.Sign(rand.Reader, digest[:], s.options)
	if err == nil && s.header.Algorithm == "ES256" {
		signature, err = joinES256(signature)
	}
	if err != nil {
		return "", err
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// joinES256 turns the ASN.1 form of a signature, which a [crypto.Signer] has, into
// that of RFC 7518 §3.4.
func joinES256(signature []byte) ([]byte, error) {
	var parts struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(signature, &parts)
	if err != nil || len(rest) > 0 || parts.R.Sign() <= 0 || parts.S.Sign() <= 0 || parts.R.BitLen() > 256 || parts.S.BitLen() > 256 {
		return nil, errors.New("xoauth2: the key's signature is not one of ECDSA on P-256")
	}
	joined := make([]byte, 64)
	parts.R.FillBytes(joined[:32])
	parts.S.FillBytes(joined[32:])
	return joined, nil
}
