package xoauth2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// assertionServer obtains tokens on behalf of the bearer of an incoming token.
type assertionServer struct {
	client    *Client
	assertion tokencache.Assertion
}

var _ tokencache.Server = (*assertionServer)(nil)

const (
	grantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantExchange  = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeAccess     = "urn:ietf:params:oauth:token-type:access_token"
)

// onBehalf is the form of a request for tokens on behalf of the bearer: Microsoft
// Entra ID's on-behalf-of flow, in the form of RFC 7523 §2.1, or the token exchange
// of RFC 8693 §2.1 on a server that has that and not the other.
func (c *Client) onBehalf(a tokencache.Assertion, scopes []string) url.Values {
	form := url.Values{
		"grant_type":          {grantJWTBearer},
		"requested_token_use": {"on_behalf_of"},
		"assertion":           {string(a.Token())},
	}
	if c.meta.exchanges() {
		form = url.Values{
			"grant_type":           {grantExchange},
			"subject_token":        {string(a.Token())},
			"subject_token_type":   {typeAccess},
			"requested_token_type": {typeAccess},
		}
	}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	return form
}

// exchanges tells whether the server offers token exchange alone.
func (m *metadata) exchanges() bool {
	return m.entra == nil && slices.Contains(m.Grants, grantExchange) && !slices.Contains(m.Grants, grantJWTBearer)
}

// Refresh obtains an access token on behalf of the bearer. A refresh token that comes
// with it is left alone: while the incoming token is valid there is no need of it,
// and afterwards the caller has gone.
func (s *assertionServer) Refresh(ctx context.Context, _ tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	g, _, err := s.exchange(ctx, req)
	g.RefreshToken = ""
	return g, err
}

func (s *assertionServer) exchange(ctx context.Context, req tokencache.Request) (tokencache.Grant, *tokenResponse, error) {
	// Another tenant's endpoint, such as that of all tenants, answers for the user's home.
	req.Tenant = cmp.Or(req.Tenant, entraTenant(s.client, s.assertion))
	g, r, err := s.client.request(ctx, &req, s.client.onBehalf(s.assertion, req.Scopes))
	var refused *ProtocolError
	switch {
	case isInvalidGrant(err):
		return tokencache.Grant{}, nil, fmt.Errorf("xoauth2: %w", tokencache.ErrInvalidGrant)
	case errors.As(err, &refused) && refused.Code == "invalid_scope":
		err = &tokencache.InteractionRequiredError{Code: refused.Code, Scopes: req.Scopes}
	}
	return g, r, err
}

// Revoke does nothing: no refresh token is kept.
func (s *assertionServer) Revoke(context.Context, tokencache.Secret) error { return nil }

// StartSession begins work on behalf of the caller that goes on when the caller's
// token has ended (Microsoft calls it a long-running process). It obtains a refresh
// token for the incoming token that the context carries, and keeps it in a partition
// of its own, named by the session (see [tokencache.Cache.SignInSession]). With the
// ticket the work goes on:
//
//	ctx = tokencache.NewContext(ctx, cache.Partition(ticket.Key()))
//	token, err := client.Token(ctx, scopes...)
//
// and [Client.SignOut] with such a context ends it. The scopes are those of the first
// access token. A client of several tenants of Microsoft Entra ID names the one of the
// incoming token in the requests that it makes then ([tokencache.Request].Tenant).
//
// Errors: [tokencache.ErrNoTokens] if the context carries no incoming token, or the
// server refuses it; *[tokencache.InteractionRequiredError], which is for the caller;
// one that is [errors.ErrUnsupported] if the server issues no refresh token; and
// those of SignInSession.
func (c *Client) StartSession(ctx context.Context, session string, scopes ...string) (tokencache.Ticket, error) {
	a, ok := tokencache.AssertionFromContext(ctx)
	if !ok {
		return tokencache.Ticket{}, errNoAssertion
	}
	if len(scopes) == 0 {
		scopes = c.scopes
	}
	return c.cache.SignInSession(ctx, session, func(ctx context.Context) (tokencache.Grant, error) {
		return c.start(ctx, a, scopes)
	})
}

// start obtains the first tokens of a session, and the ID token with which those of
// later refreshes are compared, if the server issues one.
func (c *Client) start(ctx context.Context, a tokencache.Assertion, scopes []string) (tokencache.Grant, error) {
	s := &assertionServer{client: c, assertion: a}
	g, r, err := s.exchange(ctx, tokencache.Request{Scopes: union(scopes, []string{oidc.ScopeOpenID, oidc.ScopeOfflineAccess})})
	switch {
	case err != nil:
		return tokencache.Grant{}, err
	case g.RefreshToken == "":
		return tokencache.Grant{}, errNoSession
	}
	if r.IDToken != "" {
		id, err := c.verify(ctx, r.IDToken, entraTenant(c, a))
		if err != nil {
			return tokencache.Grant{}, serverError(err)
		}
		g.Account = id.account(parseHomeAccount(r.ClientInfo))
		g.IDToken, g.ClientInfo = tokencache.Secret(r.IDToken), r.ClientInfo
	}
	g.Account.ID = a.Account() // it owns what its incoming tokens obtain
	if g.Scopes == nil {
		g.Scopes = scopes // RFC 6749 §5.1
	}
	return g, nil
}

// entraTenant is where tokens on behalf of the bearer come from, empty for the one
// that is configured.
func entraTenant(c *Client, a tokencache.Assertion) string {
	if c.meta.entra == nil {
		return ""
	}
	return a.Tenant()
}

var errNoSession = fmt.Errorf("xoauth2: the authorization server issued no refresh token on behalf of the caller: %w", errors.ErrUnsupported)

var errNoAssertion = fmt.Errorf("%w: the context carries no incoming token", tokencache.ErrNoTokens)
