package xoauth2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

var errNobody = fmt.Errorf("%w: nobody is signed in to this context", tokencache.ErrNoTokens)

// partition returns the one that the context carries. For the bearer of an incoming
// token that must be the token which the context carries too.
func (c *Client) partition(ctx context.Context) (*tokencache.Partition, tokencache.Server, error) {
	p, ok := c.cache.FromContext(ctx)
	if !ok {
		return nil, nil, errNobody
	}
	if a, ok := tokencache.AssertionFromContext(ctx); ok && tokencache.AssertionKey(a) == p.Key() {
		return p, &assertionServer{client: c, assertion: a}, nil
	}
	return p, &userServer{client: c, account: p.Key().Account(), partition: p}, nil
}

// Token returns an access token of the context's user, or in a web API on behalf of
// its caller, with at least the scopes, or those of [Options] if none are given: a cached one, or a new one.
// Name scopes of one API at a time: many servers issue tokens for one audience.
//
// Errors are those of [tokencache.Partition.Token], [tokencache.ErrNoTokens] if
// nobody is signed in, and *[ProtocolError]. What a ServerError wraps may be
// [ErrIDToken].
func (c *Client) Token(ctx context.Context, scopes ...string) (tokencache.Token, error) {
	if len(scopes) == 0 {
		scopes = c.scopes
	}
	return c.Acquire(ctx, tokencache.Request{Scopes: scopes})
}

// Acquire is Token for everything that a request can say: a tenant (Entra ID
// only), a resource (RFC 8707), a claims challenge, continuous access evaluation, or
// a token that the API has refused. No scopes means that none are named: the server then grants those of
// the sign-in. Errors are those of Token, and one that is
// [errors.ErrUnsupported] if the server has no tenants or the partition is that
// of an incoming token.
func (c *Client) Acquire(ctx context.Context, req tokencache.Request) (tokencache.Token, error) {
	p, server, err := c.partition(ctx)
	if err != nil {
		return tokencache.Token{}, err
	}
	req.CAE = req.CAE || c.cae
	return p.Token(ctx, req, server)
}

// AppToken returns an access token of the application's own, whoever is signed
// in (client credentials, RFC 6749 §4.4). The request names scopes or a
// resource; each resource, or else each set of scopes, is a partition of its
// own. It needs [Options.ClientSecret] or ClientAssertion. A token that is about to
// expire is refreshed behind the callers; see [tokencache.Partition.Token]. Errors are
// those of Acquire, but never ErrNoTokens.
func (c *Client) AppToken(ctx context.Context, req tokencache.Request) (tokencache.Token, error) {
	resource := req.Resource
	if resource == "" {
		scopes := slices.Clone(req.Scopes)
		slices.Sort(scopes)
		resource = strings.Join(slices.Compact(scopes), " ")
	}
	switch {
	case resource == "":
		return tokencache.Token{}, errors.New("xoauth2: AppToken needs scopes or a resource")
	case !c.confidential():
		return tokencache.Token{}, errors.New("xoauth2: AppToken needs Options.ClientSecret or Options.ClientAssertion")
	}
	req.CAE = req.CAE || c.cae
	p := c.cache.Partition(tokencache.ApplicationKey(req.Tenant, resource))
	return p.Token(ctx, req, &appServer{client: c})
}

// TokenSource returns a token source that asks the cache each time: Token of ctx
// and the scopes. It keeps nothing, so do not wrap it in
// [oauth2.ReuseTokenSource]. The context is the request's whose user it is; make
// a source for each request, and do not keep it for longer.
func (c *Client) TokenSource(ctx context.Context, scopes ...string) oauth2.TokenSource {
	return &tokenSource{ctx: ctx, client: c, scopes: scopes}
}

// tokenSource holds a context because the interface leaves no other way.
type tokenSource struct {
	ctx    context.Context
	client *Client
	scopes []string
}

// Token returns the access token, without a refresh token: that is the cache's.
func (s *tokenSource) Token() (*oauth2.Token, error) {
	tok, err := s.client.Token(s.ctx, s.scopes...)
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: string(tok.AccessToken), TokenType: tok.Type, Expiry: tok.Expires}, nil
}
