package idp

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const accessTokenType = "at+jwt" // RFC 9068 §2.1

// keyring signs and verifies this server's tokens with its one RSA key. It is
// immutable, and so safe for concurrent use.
type keyring struct {
	public jose.JSONWebKey
	id     jose.Signer
	access jose.Signer
	logout jose.Signer
}

func newKeyring() (*keyring, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("idp: generate signing key: %w", err)
	}
	public := jose.JSONWebKey{Key: &key.PublicKey, Algorithm: string(jose.RS256), Use: "sig"}
	thumb, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("idp: name signing key: %w", err)
	}
	public.KeyID = base64.RawURLEncoding.EncodeToString(thumb)

	signing := jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: public.KeyID}}
	id, err := jose.NewSigner(signing, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("idp: signer: %w", err)
	}
	access, err := jose.NewSigner(signing, (&jose.SignerOptions{}).WithType(accessTokenType))
	if err != nil {
		return nil, fmt.Errorf("idp: signer: %w", err)
	}
	logout, err := jose.NewSigner(signing, (&jose.SignerOptions{}).WithType(logoutTokenType))
	if err != nil {
		return nil, fmt.Errorf("idp: signer: %w", err)
	}
	return &keyring{public: public, id: id, access: access, logout: logout}, nil
}

// claims are those that ID tokens and access tokens have in common.
type claims struct {
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	Subject   string `json:"sub"`
	ObjectID  string `json:"oid"`
	TenantID  string `json:"tid"`
	Username  string `json:"preferred_username,omitempty"`
	Name      string `json:"name,omitempty"`
	IssuedAt  int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`
	Version   string `json:"ver"`
}

// idClaims are the claims of an ID token (OpenID Connect Core §2).
type idClaims struct {
	claims
	Nonce     string `json:"nonce,omitempty"`
	AuthTime  int64  `json:"auth_time"`
	SessionID string `json:"sid"`
}

// accessClaims are the claims of an access token (RFC 9068 §2.2).
type accessClaims struct {
	claims
	ID       string `json:"jti"`
	ClientID string `json:"client_id"`
	Party    string `json:"azp"`
	Scopes   string `json:"scp,omitempty"`
	Kind     string `json:"idtyp,omitempty"` // "app": issued to a client, not a user
	FamilyID string `json:"family_id,omitempty"`

	Capabilities []string `json:"xms_cc,omitempty"` // those of the client, as far as the server knows them
}

func sign(s jose.Signer, claims any) (string, error) {
	token, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("idp: sign token: %w", err)
	}
	return token, nil
}

// The reasons why a token is refused, in words that may be sent to its bearer.
var (
	errTokenMalformed = errors.New("the token is not an access token of this server")
	errTokenIssuer    = errors.New("the token has another issuer")
	errTokenExpired   = errors.New("the token is expired or not yet valid")
	errTokenRevoked   = errors.New("the token was revoked")
	errTokenAudience  = errors.New("the token is for another audience")
)

// verify checks signature and type, and decodes into dst. Times, issuer and
// audience are the caller's to judge, since logout accepts an expired token.
func (k *keyring) verify(raw, typ string, dst any) error {
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil || len(token.Headers) != 1 {
		return errTokenMalformed
	}
	// RFC 9068 §4: without this check an ID token would pass for an access
	// token wherever the audiences happen to agree.
	if got, _ := token.Headers[0].ExtraHeaders[jose.HeaderType].(string); got != typ {
		return errTokenMalformed
	}
	if err := token.Claims(k.public.Key, dst); err != nil {
		return errTokenMalformed
	}
	return nil
}

// verifyAccess checks an access token for use at this server itself. An empty
// audience accepts any.
func (s *Server) verifyAccess(raw, audience string) (*accessClaims, error) {
	var c accessClaims
	if err := s.keys.verify(raw, accessTokenType, &c); err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	switch {
	case !s.isIssuer(c.Issuer):
		return nil, errTokenIssuer
	case now >= c.Expires || now < c.NotBefore:
		return nil, errTokenExpired
	case audience != "" && c.Audience != audience:
		return nil, errTokenAudience
	case c.FamilyID != "" && !s.store.alive(c.FamilyID):
		return nil, errTokenRevoked
	}
	return &c, nil
}
