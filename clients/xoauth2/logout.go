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
	issuer   string
}

// BackChannelLogout takes a logout token that the authorization server has sent
// (OpenID Connect Back-Channel Logout 1.0), and ends what it is about, on every machine.
// A token is accepted for 5 minutes after its issue, and not again, on whatever
// machine, once it has done its work.
//
// A token about one session (sid) ends the sign-ins from that session:
//
//   - those whose tokens are kept apart ([SignInOptions].Session), and nothing else;
//   - with any other one all that share the account's partition, in all browsers, as
//     their tokens cannot be told apart.
//
// One about a user (sub alone) signs them out everywhere: in all browsers, with what was
// obtained on their behalf. So does one about a session that nothing is known of, if it
// names the user: the sign-in may be from before sessions were noted, or the note lost.
// Without a user there is nothing to end then, and no error. Sessions are noted at the
// sign-in, for as long as its tokens may live, if the server's metadata says that it
// sends them (backchannel_logout_session_supported).
//
// On Microsoft Entra ID the user is oid and tid, which its tokens have instead of sub.
// Work that [Client.StartSession] has begun ends with its user only. Web sessions are
// not ended by it: their tickets open nothing any more.
//
// Errors: [ErrLogoutToken]; one that is [errors.ErrUnsupported] for a token that names
// neither a session that could be known nor a user, and where the provider has no
// [tokencache.OwnerIndex]; and those of [tokencache.Cache.SignOutSID] and
// [tokencache.Partition.SignOutEverywhere], after which the user may still be signed
// in, and the server may send the token again.
func (c *Client) BackChannelLogout(ctx context.Context, logoutToken string) error {
	claims, err := c.verifyLogout(ctx, logoutToken)
	if err != nil {
		return err
	}
	until := claims.issued.Add(2 * logoutAge)
	done, err := c.cache.Once(ctx, "logout token "+claims.ID, until, func(ctx context.Context) error {
		return c.end(ctx, claims)
	})
	if err == nil && !done {
		return badLogout("it came before")
	}
	return err
}

// end ends the session of a token, or else everything of its user.
func (c *Client) end(ctx context.Context, claims *logoutClaims) error {
	server := func(p *tokencache.Partition) tokencache.Server {
		return &userServer{client: c, account: p.Key().Account(), partition: p}
	}
	account := c.accountOf(claims)
	session := c.meta.session(claims.issuer, claims.Session)
	if session != "" {
		known, err := c.cache.SignOutSID(ctx, session, server)
		if known || err != nil || account == "" && claims.Subject == "" {
			return err
		}
	}
	if account == "" {
		return errWhose
	}
	return c.cache.SignOutAccount(ctx, account, server(c.cache.Partition(tokencache.AccountKey(account))))
}

// accountOf is whom a token is about, as a sign-in names them, empty if it does not tell.
func (c *Client) accountOf(claims *logoutClaims) string {
	switch {
	case c.meta.entra == nil:
		return claims.Subject
	case claims.ObjectID == "" || claims.TenantID == "":
		return ""
	}
	return homeAccount{UID: claims.ObjectID, UTID: claims.TenantID}.id()
}

// session is the name of a session at this server, empty if sign-ins are not noted by
// theirs. A sid is the issuer's own (Back-Channel Logout §2.1), and no issuer has a
// space in it.
func (m *metadata) session(issuer, sid string) string {
	if sid == "" || !m.LogoutSession {
		return ""
	}
	return issuer + " " + sid
}

var errWhose = fmt.Errorf("xoauth2: a logout token that does not tell whose account it is about: %w", errors.ErrUnsupported)

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
	claims.issued, claims.issuer = token.IssuedAt, token.Issuer
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
	}
	return &claims, nil
}

func badLogout(check string) error { return fmt.Errorf("%w: %s", ErrLogoutToken, check) }
