package msal

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Exchange makes a sign-in of an MSAL client what [tokencache.Cache.SignIn] and
// SignInSession take. acquire makes an MSAL client with the accessor that it is given,
// and has it acquire the first tokens, by an authorization code as a rule.
//
// MSAL Go takes whatever ID token it gets. verify has to check its signature, issuer,
// audience, time and nonce (OpenID Connect Core §3.1.3.7), and that state was the
// session's before all that; what it refuses is not stored.
//
// The accessor keeps the tokens in memory until the cache stores them, so that no store
// can fail while MSAL waits for it. It takes the tokens of one account; with others, and
// after the exchange, it fails.
func Exchange(
	acquire func(ctx context.Context, accessor cache.ExportReplace) (confidential.AuthResult, error),
	verify func(ctx context.Context, idToken string) error,
) func(context.Context) (tokencache.Grant, error) {
	return func(ctx context.Context) (tokencache.Grant, error) {
		c := &collector{}
		defer c.close()
		result, err := acquire(ctx, c)
		if err != nil {
			return tokencache.Grant{}, err
		}
		if result.IDToken.RawToken == "" {
			return tokencache.Grant{}, errors.New("msal: the sign-in has brought no ID token")
		}
		if err := verify(ctx, result.IDToken.RawToken); err != nil {
			return tokencache.Grant{}, fmt.Errorf("msal: the ID token is refused: %w", err)
		}
		return c.grant(result)
	}
}

// collector is the accessor of a sign-in.
type collector struct {
	mu      sync.Mutex
	account string // the key that MSAL has for it; empty before the first call
	text    []byte // what it has exported
	over    bool
}

func (c *collector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over, c.text = true, nil
}

// admit tells whether the tokens of a key are collected.
func (c *collector) admit(key string) (bool, error) {
	switch {
	case c.over:
		return false, errors.New("msal: the sign-in is over: make an MSAL client with NewExportReplace")
	case key == "":
		return false, errors.New("msal: MSAL does not say whose tokens it has: a confidential client does")
	case key == c.account:
		return true, nil
	case isAssertionHash(key) && c.account != "":
		return false, nil
	case c.account != "" || strings.HasSuffix(key, "_AppTokenCache"):
		return false, errOtherKey
	}
	c.account = key
	return true, nil
}

// Replace gives the client what it has exported itself.
func (c *collector) Replace(_ context.Context, client cache.Unmarshaler, hints cache.ReplaceHints) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch ok, err := c.admit(hints.PartitionKey); {
	case err != nil:
		return err
	case !ok:
		return client.Unmarshal(nil)
	}
	return client.Unmarshal(c.text)
}

// Export collects what the client has.
func (c *collector) Export(_ context.Context, client cache.Marshaler, hints cache.ExportHints) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok, err := c.admit(hints.PartitionKey)
	if !ok {
		return err
	}
	c.text, err = client.Marshal()
	return err
}

// grant is what was collected.
func (c *collector) grant(result confidential.AuthResult) (tokencache.Grant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	account := result.Account
	if c.text == nil || account.HomeAccountID != c.account {
		return tokencache.Grant{}, errors.New("msal: the MSAL client of the sign-in does not use the accessor that it was given")
	}
	tokens := &tokencache.Tokens{}
	if err := tokens.UnmarshalJSON(c.text); err != nil {
		return tokencache.Grant{}, err
	}
	return tokencache.Grant{
		Tokens: tokens,
		SID:    sessionOf(result.IDToken.RawToken),
		Account: tokencache.Account{
			ID: account.HomeAccountID, LocalID: account.LocalAccountID, Tenant: account.Realm,
			Username: account.PreferredUsername, Name: result.IDToken.Name,
		},
	}, nil
}

// sessionOf is the sid of an ID token that was verified (OpenID Connect Back-Channel Logout
// 1.0 §2.1), which MSAL leaves out.
func sessionOf(idToken string) string {
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
		SID    string `json:"sid"`
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(body, &claims) != nil || claims.SID == "" {
		return ""
	}
	return claims.Issuer + " " + claims.SID // as xoauth2 names it
}
