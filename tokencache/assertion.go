package tokencache

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// Assertion is an incoming access token that has been verified. Only
// [VerifyAssertion] makes one, so that no partition is ever keyed by a token
// that nobody checked.
type Assertion struct {
	token  Secret
	hash   string // of the token's text; see VerifyAssertion
	claims AssertionClaims
}

// Token is the text of the token, which a client presents to obtain others on behalf
// of its bearer.
func (a Assertion) Token() Secret { return a.token }

// Account is the user whom the token names. It is personal data.
func (a Assertion) Account() string { return a.claims.Account }

// Tenant is the directory that issued the token, if any.
func (a Assertion) Tenant() string { return a.claims.Tenant }

// Scopes are those that the token grants. The slice is shared: do not change it.
func (a Assertion) Scopes() []string { return a.claims.Scopes }

// Expires is when the token ends.
func (a Assertion) Expires() time.Time { return a.claims.Expires }

// Verifier checks bearer tokens.
type Verifier interface {
	// Verify checks the token's signature, issuer, audience and time, and tells
	// what it says. It is called with text from the network.
	Verify(ctx context.Context, token string) (AssertionClaims, error)
}

// AssertionClaims is what a [Verifier] found in a token.
type AssertionClaims struct {
	// Account is the home account ID of the user (see [Account.ID]). Required.
	Account string
	// Tenant is the directory that issued the token, if any.
	Tenant string
	// Expires is when the token ends. Required.
	Expires time.Time
	// Scopes are those that the token grants, if any.
	Scopes []string
}

// VerifyAssertion has the verifier check the token and returns the assertion
// that [AssertionKey] takes. The key has the token's SHA-256 (unpadded base64url, as
// MSAL.NET, MSAL Node and MSAL Java name such partitions), not the token. A token
// that has ended is refused, whatever the verifier said.
func VerifyAssertion(ctx context.Context, v Verifier, token string) (Assertion, error) {
	claims, err := v.Verify(ctx, token)
	if err != nil {
		return Assertion{}, fmt.Errorf("tokencache: the bearer token was refused: %w", err)
	}
	switch {
	case claims.Account == "" || claims.Expires.IsZero():
		return Assertion{}, errors.New("tokencache: the verifier named no account or no expiry")
	case !time.Now().Before(claims.Expires):
		return Assertion{}, errors.New("tokencache: the verifier accepted a bearer token that has ended")
	}
	sum := sha256.Sum256([]byte(token))
	return Assertion{
		token:  Secret(token),
		hash:   base64.RawURLEncoding.EncodeToString(sum[:]),
		claims: claims,
	}, nil
}
