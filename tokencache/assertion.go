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
	hash    string // of the token's text; see VerifyAssertion
	account string
	tenant  string
	expires time.Time
}

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
}

// VerifyAssertion has the verifier check the token and returns the assertion
// that [AssertionKey] takes. It keeps the token's SHA-256 (unpadded base64url, as
// MSAL.NET, MSAL Node and MSAL Java name such partitions), not the token.
func VerifyAssertion(ctx context.Context, v Verifier, token string) (Assertion, error) {
	claims, err := v.Verify(ctx, token)
	if err != nil {
		return Assertion{}, fmt.Errorf("tokencache: the bearer token was refused: %w", err)
	}
	if claims.Account == "" || claims.Expires.IsZero() {
		return Assertion{}, errors.New("tokencache: the verifier named no account or no expiry")
	}
	sum := sha256.Sum256([]byte(token))
	return Assertion{
		hash:    base64.RawURLEncoding.EncodeToString(sum[:]),
		account: claims.Account,
		tenant:  claims.Tenant,
		expires: claims.Expires,
	}, nil
}
