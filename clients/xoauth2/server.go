package xoauth2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// userServer refreshes the tokens of one account.
type userServer struct {
	client    *Client
	account   string // the partition's
	partition *tokencache.Partition
}

// appServer obtains the application's own tokens. It is a type of its own so
// that the partition of a user or of an incoming token never gets these.
type appServer struct{ client *Client }

var (
	_ tokencache.Server = (*userServer)(nil)
	_ tokencache.Server = (*appServer)(nil)
)

// Refresh is the refresh token grant (RFC 6749 §6, OpenID Connect Core §12).
func (s *userServer) Refresh(ctx context.Context, refreshToken tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	if refreshToken == "" {
		return tokencache.Grant{}, fmt.Errorf("xoauth2: tokens on behalf of an incoming token: %w", errors.ErrUnsupported)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {string(refreshToken)}}
	if len(req.Scopes) > 0 {
		// Entra ID sends an ID token and a new refresh token only if asked for
		// them each time. Every sign-in asked for them, so that §6, which
		// forbids to ask for more than was granted, is kept.
		form.Set("scope", strings.Join(union(req.Scopes, s.client.basic), " "))
	}
	g, r, err := s.client.request(ctx, &req, form)
	var refused *ProtocolError
	switch {
	case isInvalidGrant(err):
		return tokencache.Grant{}, fmt.Errorf("xoauth2: %w", tokencache.ErrInvalidGrant)
	case errors.As(err, &refused) && refused.Code == "invalid_scope":
		// It exceeds what the user granted (RFC 6749 §5.2), which a sign-in mends.
		err = &tokencache.InteractionRequiredError{Code: refused.Code, Scopes: req.Scopes}
	}
	if err == nil {
		g.Account, err = s.identify(ctx, r, req.Tenant)
	}
	if err != nil {
		// The server has rotated the refresh token, whatever else it sent. If
		// it sent another user's, there is nothing to save.
		if foreign(err) {
			return tokencache.Grant{}, err
		}
		return tokencache.Grant{RefreshToken: g.RefreshToken}, err
	}
	g.IDToken, g.ClientInfo = tokencache.Secret(r.IDToken), r.ClientInfo
	return g, nil
}

// identify verifies the ID token of a refresh, if there is one, and checks that it
// and client_info are about the partition's account (OpenID Connect Core
// §12.2). Without an ID token the account is left as it is.
func (s *userServer) identify(ctx context.Context, r *tokenResponse, tenant string) (tokencache.Account, error) {
	home := parseHomeAccount(r.ClientInfo)
	if r.IDToken == "" {
		// An account that was named by its subject cannot be compared.
		if home.id() != "" && strings.Contains(s.account, ".") && !strings.EqualFold(home.id(), s.account) {
			return tokencache.Account{}, errForeign
		}
		return tokencache.Account{}, nil
	}
	id, err := s.client.verify(ctx, r.IDToken, tenant)
	if err != nil {
		return tokencache.Account{}, serverError(err)
	}
	if !home.agrees(id) || !s.is(id, home) && !s.was(ctx, id) {
		return tokencache.Account{}, errForeign
	}
	a := id.account(home)
	a.ID = s.account
	return a, nil
}

// is tells whether the answer names the partition's account, in any of the forms
// that the sign-in may have named it.
func (s *userServer) is(id *idClaims, home homeAccount) bool {
	switch {
	case id.Subject == s.account:
		return true
	case home.id() != "":
		return strings.EqualFold(home.id(), s.account)
	}
	return id.ObjectID != "" && strings.EqualFold(id.ObjectID+"."+id.TenantID, s.account)
}

// was tells whether the ID token names the user as the first one did (OpenID Connect
// Core §12.2). A partition that was begun on behalf of an incoming token is named by
// that one's subject, and on some servers each client has subjects of its own
// (pairwise identifiers, §8.1).
func (s *userServer) was(ctx context.Context, id *idClaims) bool {
	tokens, err := s.partition.Tokens(ctx)
	return err == nil && slices.ContainsFunc(tokens.Accounts(), func(a tokencache.Account) bool {
		return a.ID == s.account && a.LocalID == id.localID()
	})
}

// Revoke tells the server to revoke the refresh token (RFC 7009 §2.1).
func (s *userServer) Revoke(ctx context.Context, refreshToken tokencache.Secret) error {
	c := s.client
	if c.meta.Revocation == "" {
		return nil
	}
	a, err := c.post(ctx, c.meta.Revocation, inBody(c.meta.RevokeAuth), url.Values{
		"token":           {string(refreshToken)},
		"token_type_hint": {"refresh_token"},
	})
	if err != nil || a.ok() {
		return err
	}
	var r tokenResponse
	_ = json.Unmarshal(a.body, &r)
	switch {
	case a.status == http.StatusTooManyRequests || a.status >= 500 || r.Error == "":
		return a.unavailable("revocation endpoint")
	case r.Error == "unsupported_token_type":
		return nil // RFC 7009 §2.2.1: it revokes access tokens only
	}
	return oauthError(r.Error, nil, "")
}

// Refresh is the client credentials grant (RFC 6749 §4.4).
func (s *appServer) Refresh(ctx context.Context, _ tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(req.Scopes) > 0 {
		form.Set("scope", strings.Join(req.Scopes, " "))
	}
	g, _, err := s.client.request(ctx, &req, form)
	if err != nil {
		return tokencache.Grant{}, err
	}
	g.RefreshToken = "" // RFC 6749 §4.4.3: there should be none
	return g, nil
}

// Revoke does nothing: an application has no refresh token.
func (s *appServer) Revoke(context.Context, tokencache.Secret) error { return nil }
