package xoauth2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// ErrLogoutToken means that a logout token failed verification, or came before: the
// text names the check.
var ErrLogoutToken = errors.New("xoauth2: the logout token is not valid")

const (
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// logoutAge is how old a logout token may be, and how far ahead the server's
	// clock (OpenID Connect Back-Channel Logout 1.0 §2.6).
	logoutAge = 5 * time.Minute
)

// logoutClaims are those of a logout token (Back-Channel Logout §2.4).
type logoutClaims struct {
	Subject  string                     `json:"sub"`
	ObjectID string                     `json:"oid"`
	TenantID string                     `json:"tid"`
	ID       string                     `json:"jti"`
	Session  string                     `json:"sid"`
	Events   map[string]json.RawMessage `json:"events"`
	Nonce    *json.RawMessage           `json:"nonce"`
	issued   time.Time
}

// BackChannelLogout takes a logout token that the authorization server has sent
// (OpenID Connect Back-Channel Logout 1.0), and signs its user out everywhere: in all
// browsers, with what was obtained on their behalf, on every machine. That goes
// beyond a token about one session (sid), as the browsers of one user share their
// tokens. A token is accepted for 5 minutes after its issue, and not again, on whatever
// machine, once it has done its work.
//
// Web sessions are not ended by it: their tickets open nothing any more.
//
// Errors: [ErrLogoutToken]; one that is [errors.ErrUnsupported] for a token that names
// a session and no subject, or on Microsoft Entra ID, which sends none, no oid and tid,
// and where the provider has no [tokencache.OwnerIndex]; and those of
// [tokencache.Partition.SignOutEverywhere], after which the user may still be signed
// in, and the server may send the token again.
func (c *Client) BackChannelLogout(ctx context.Context, logoutToken string) error {
	claims, err := c.verifyLogout(ctx, logoutToken)
	if err != nil {
		return err
	}
	account := claims.Subject
	if c.meta.entra != nil {
		account = homeAccount{UID: claims.ObjectID, UTID: claims.TenantID}.id()
	}
	p := c.cache.Partition(tokencache.AccountKey(account))
	server := &userServer{client: c, account: account, partition: p}
	until := claims.issued.Add(2 * logoutAge)
	done, err := c.cache.Once(ctx, "logout token "+claims.ID, until, func(ctx context.Context) error {
		return c.cache.SignOutAccount(ctx, account, server)
	})
	if err == nil && !done {
		return badLogout("it came before")
	}
	return err
}

// verifyLogout checks a logout token as Back-Channel Logout §2.6 asks for.
func (c *Client) verifyLogout(ctx context.Context, raw string) (*logoutClaims, error) {
	switch {
	case len(raw) > maxAccessToken:
		return nil, badLogout("size")
	case !canonical(raw):
		return nil, badLogout("form")
	}
	keys := c.keys.of("")
	token, err := oidc.NewVerifier(c.meta.Issuer, keys, &oidc.Config{
		SkipIssuerCheck:      true, // they are compared below, see verify
		SkipClientIDCheck:    true,
		SupportedSigningAlgs: c.meta.algorithms(),
	}).Verify(ctx, raw)
	if err != nil {
		return nil, insteadOfIDToken(keys.explain(ctx, err), badLogout)
	}
	var claims logoutClaims
	if err := token.Claims(&claims); err != nil {
		return nil, badLogout("claims")
	}
	claims.issued = token.IssuedAt
	age := time.Since(claims.issued)
	event, ok := claims.Events[logoutEvent]
	switch {
	case !slices.Contains([]string{"", "jwt", "logout+jwt"}, jwtType(raw)):
		return nil, badLogout("type")
	case !c.meta.issued(token.Issuer, claims.TenantID, false):
		return nil, badLogout("issuer")
	case !slices.Contains(token.Audience, c.config.ClientID):
		return nil, badLogout("audience")
	case age > logoutAge || age < -logoutAge:
		return nil, badLogout("time")
	case !ok || len(event) == 0 || event[0] != '{':
		return nil, badLogout("event")
	case claims.Nonce != nil:
		return nil, badLogout("nonce: it may be an ID token")
	case claims.ID == "" || len(claims.ID) > 255:
		return nil, badLogout("ID")
	case claims.Subject == "" && claims.Session == "":
		return nil, badLogout("neither subject nor session")
	case claims.Subject == "", c.meta.entra != nil && (claims.ObjectID == "" || claims.TenantID == ""):
		return nil, fmt.Errorf("xoauth2: a logout token that does not tell whose account it is about: %w", errors.ErrUnsupported)
	}
	return &claims, nil
}

func badLogout(check string) error { return fmt.Errorf("%w: %s", ErrLogoutToken, check) }
