package azcredential

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Client obtains tokens of the user of a context: *xoauth2.Client does.
type Client interface {
	Acquire(ctx context.Context, r tokencache.Request) (tokencache.Token, error)
}

// AppClient obtains tokens of the application's own: *xoauth2.Client does, and
// *msal.ManagedIdentity.
type AppClient interface {
	AppToken(ctx context.Context, r tokencache.Request) (tokencache.Token, error)
}

// New returns a credential of the user of ctx, or in a web API one on behalf of its
// caller: who that is, is the same for all of its life. The context is the request's
// whose user it is, or, outside of requests, one of [tokencache.NewContext]. Make a
// credential for each request, with SDK clients of its own, and do not keep it for
// longer: it obtains no token any more when ctx has ended.
//
// Of a token request, the scopes, the claims, the tenant and EnableCAE are asked for. Without
// scopes it is an error, as any token of the user's would do. Of the context of a call
// only its end counts. The credential is safe for concurrent use.
func New(ctx context.Context, client Client) azcore.TokenCredential {
	return &credential{acquire: func(call context.Context, r tokencache.Request) (tokencache.Token, error) {
		switch {
		case call.Err() != nil:
			return tokencache.Token{}, call.Err()
		case ctx.Err() != nil:
			return tokencache.Token{}, &finalError{fmt.Errorf("azcredential: the context that the credential was made for has ended: %w", ctx.Err())}
		}
		return client.Acquire(&bound{Context: call, user: ctx}, r) //nolint:contextcheck // it ends with the call
	}}
}

// NewApp returns a credential of the application's own, whoever is signed in. It is
// safe for concurrent use, for as long as the client.
func NewApp(client AppClient) azcore.TokenCredential {
	return &credential{acquire: client.AppToken}
}

type credential struct {
	acquire func(context.Context, tokencache.Request) (tokencache.Token, error)
}

var errNoScopes = errors.New("azcredential: a token request without scopes")

// GetToken implements [azcore.TokenCredential].
func (c *credential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) == 0 {
		return azcore.AccessToken{}, &finalError{errNoScopes}
	}
	tok, err := c.acquire(ctx, tokencache.Request{Scopes: o.Scopes, Tenant: o.TenantID, Claims: o.Claims, CAE: o.EnableCAE})
	if err != nil {
		return azcore.AccessToken{}, sorted(err)
	}
	return azcore.AccessToken{Token: string(tok.AccessToken), ExpiresOn: tok.Expires}, nil
}

// bound is the context of a call on behalf of the user of another one: it ends when the
// call does, and carries what the other carries, and nothing else.
type bound struct {
	context.Context
	user context.Context
}

// Value never looks at the call's context, which may be another user's.
func (b *bound) Value(key any) any { return b.user.Value(key) }

// AfterFunc spares each context that is derived from this one a goroutine; see
// [context.AfterFunc].
func (b *bound) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(b.Context, f) }
