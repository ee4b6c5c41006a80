package xoauth2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

var (
	errNoRecord    = fmt.Errorf("%w: there is no authentication record", tokencache.ErrNoTokens)
	errOtherTenant = badRecord("it is of another tenant")
	errApart       = fmt.Errorf("xoauth2: an authentication record finds no tokens that are kept apart by session: %w", errors.ErrUnsupported)
)

// AuthenticationRecord returns the record of who has signed in with the ticket, for a
// later process to sign in with ([Client.SignInSilently]). The tokens stay in the cache:
// the later process needs the same store.
//
// Errors are those of [tokencache.Partition.Tokens]; one that is [errors.ErrUnsupported] for
// a sign-in that is kept apart ([SignInOptions.Session]); and [ErrRecord] for an account
// that a record cannot hold, as the server's name for it is not printable.
func (c *Client) AuthenticationRecord(ctx context.Context, t tokencache.Ticket) (AuthenticationRecord, error) {
	key := t.Key()
	if key.String() != tokencache.AccountKey(t.Account()).String() {
		return AuthenticationRecord{}, errApart
	}
	tokens, err := c.cache.Partition(key).Tokens(ctx)
	if err != nil {
		return AuthenticationRecord{}, err
	}
	a, issuer := c.recorded(tokens.Accounts(), t.Account()), c.issuer()
	r := AuthenticationRecord{
		Authority:     issuer.Scheme + "://" + issuer.Host,
		ClientID:      c.config.ClientID,
		HomeAccountID: a.ID,
		TenantID:      a.Tenant,
		Username:      a.Username,
		Version:       recordVersion,
	}
	if strings.ContainsFunc(r.Username, unshowable) {
		r.Username = "" // it is for showing only
	}
	if err := r.check(); err != nil {
		return AuthenticationRecord{}, err
	}
	return r, nil
}

// recorded returns the account as the server's tenant knows it, else as its home
// directory does. Without a tenant it gets what azidentity writes for one.
func (c *Client) recorded(accounts []tokencache.Account, id string) tokencache.Account {
	_, tenant, _ := strings.Cut(id, ".")
	if c.meta.entra != nil && !c.meta.template {
		tenant = c.meta.entra.tenantIn(c.meta.Issuer)
	}
	var best tokencache.Account
	for _, a := range accounts {
		if strings.EqualFold(a.ID, id) && (best.ID == "" || strings.EqualFold(a.Tenant, tenant)) {
			best = a
		}
	}
	best.ID = id
	best.Tenant = cmp.Or(best.Tenant, strings.Trim(c.issuer().Path, "/"))
	return best
}

// issuer is the one of the cache's namespace, which New has parsed.
func (c *Client) issuer() *url.URL {
	u, _ := url.Parse(c.cache.Namespace().Issuer)
	return u
}

// SignInSilently signs the account of a record in, without its user, from what the cache
// has of it: there is an access token with at least the scopes, or those of [Options] if
// none are given, or one has been obtained with the refresh token. The ticket is as good
// as that of the sign-in.
//
// A record proves nothing: whoever names an account is signed in to it. It is for a
// program on its user's own machine, with that user's own store. In a server, never take
// one from a request.
//
// Errors: [ErrRecord] if the record is not one of this client at this authorization server,
// or of another tenant than the server's; and those of [tokencache.Partition.Ticket] and
// [Client.Token]. The user has to sign in again if it is ErrRecord,
// [tokencache.ErrNoTokens], which it is for the zero record too, or
// *[tokencache.InteractionRequiredError], and need not if it is another one.
func (c *Client) SignInSilently(ctx context.Context, r AuthenticationRecord, scopes ...string) (tokencache.Ticket, error) {
	if r == (AuthenticationRecord{}) {
		return tokencache.Ticket{}, errNoRecord
	}
	if err := c.checkRecord(&r); err != nil {
		return tokencache.Ticket{}, err
	}
	p := c.cache.Partition(tokencache.AccountKey(r.HomeAccountID))
	t, err := p.Ticket(ctx)
	if err == nil {
		err = c.enter(ctx, t, &r, scopes)
	}
	if errors.Is(err, tokencache.ErrNoTokens) {
		// Another process may have signed the user in anew meanwhile.
		if now, ended := p.Ticket(ctx); ended == nil && now != t {
			t, err = now, c.enter(ctx, now, &r, scopes)
		}
	}
	if err != nil {
		return tokencache.Ticket{}, err
	}
	return t, nil
}

// enter tells whether the sign-in of the ticket, and no later one, is of the record's
// tenant and still has tokens.
func (c *Client) enter(ctx context.Context, t tokencache.Ticket, r *AuthenticationRecord, scopes []string) error {
	p := c.cache.Partition(t.Key())
	// Only Entra ID's issuers tell their tenant; of others, several may be on one host.
	if c.meta.entra == nil && r.TenantID != "" {
		tokens, err := p.Tokens(ctx)
		if err != nil {
			return err
		}
		if c.recorded(tokens.Accounts(), r.HomeAccountID).Tenant != r.TenantID {
			return errOtherTenant
		}
	}
	_, err := c.Token(tokencache.NewContext(ctx, p), scopes...)
	return err
}

// checkRecord compares a record with what the client is of. An Entra ID endpoint is for one
// tenant, or for several.
func (c *Client) checkRecord(r *AuthenticationRecord) error {
	if err := r.check(); err != nil {
		return err
	}
	issuer, entra := c.issuer(), c.meta.entra
	scheme, host, ok := strings.Cut(r.Authority, "://")
	if !ok {
		scheme, host = issuer.Scheme, r.Authority
	}
	switch {
	case r.HomeAccountID == "":
		return badRecord("it names no account")
	case !strings.EqualFold(scheme, issuer.Scheme), !strings.EqualFold(strings.TrimSuffix(host, "/"), issuer.Host):
		return badRecord("it is of another authorization server")
	case r.ClientID != c.config.ClientID && (entra == nil || !strings.EqualFold(r.ClientID, c.config.ClientID)):
		return badRecord("it is of another client")
	case entra == nil:
		return nil
	case c.meta.template && !validTenant(r.TenantID),
		!c.meta.template && !strings.EqualFold(r.TenantID, entra.tenantIn(c.meta.Issuer)):
		return errOtherTenant
	}
	return nil
}
