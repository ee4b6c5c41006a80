package msal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
)

// The grants that have longer names, or are named twice.
const (
	grantClient    = "client_credentials"
	grantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantDevice    = "urn:ietf:params:oauth:grant-type:device_code"
)

var errNoScopes = fmt.Errorf("msal: a request without scopes, which MSAL does not make: %w", errors.ErrUnsupported)

// askConfidential has MSAL make the request of a client with a credential.
func (e *engine) askConfidential(ctx context.Context, r *xoauth2.TokenRequest, rec *recorder) (confidential.AuthResult, error) {
	region := noRegion // regions have no users, which MSAL leaves to its caller to know
	if r.Form.Get("grant_type") == grantClient {
		region = e.options.AzureRegion
	}
	c, err := e.confidential(rec, spending(r, e.authority, e.clientID), r.CAE, region)
	if err != nil {
		return confidential.AuthResult{}, err
	}
	scopes, tenant := r.Scopes, confidential.WithTenantID(r.Tenant)
	switch grant := r.Form.Get("grant_type"); {
	case grant == "authorization_code":
		return c.AcquireTokenByAuthCode(ctx, r.Form.Get("code"), r.Form.Get("redirect_uri"), ofOneAPI(scopes), tenant,
			confidential.WithChallenge(r.Form.Get("code_verifier"))) // which it sends as the verifier
	case len(scopes) == 0:
		return confidential.AuthResult{}, errNoScopes
	case grant == "refresh_token":
		// WithClaims is an error here: MSAL would have the user sign in for them.
		return c.AcquireTokenSilent(ctx, scopes, tenant, confidential.WithClaimsFromClient(r.Claims),
			confidential.WithSilentAccount(confidential.Account{HomeAccountID: spender}))
	case grant == grantJWTBearer:
		return c.AcquireTokenOnBehalfOf(ctx, r.Form.Get("assertion"), scopes, tenant, confidential.WithClaims(r.Claims))
	case grant == grantClient:
		return c.AcquireTokenByCredential(ctx, scopes, tenant, confidential.WithClaims(r.Claims))
	case grant == "password":
		return c.AcquireTokenByUsernamePassword(ctx, scopes, r.Form.Get("username"), r.Form.Get("password"), tenant,
			confidential.WithClaims(r.Claims))
	}
	return confidential.AuthResult{}, errGrant
}

// askPublic is askConfidential for a client without credentials.
func (e *engine) askPublic(ctx context.Context, r *xoauth2.TokenRequest, rec *recorder) (public.AuthResult, error) {
	c, err := e.public(rec, spending(r, e.authority, e.clientID), r.CAE)
	if err != nil {
		return public.AuthResult{}, err
	}
	scopes, tenant := r.Scopes, public.WithTenantID(r.Tenant)
	switch grant := r.Form.Get("grant_type"); {
	case grant == "authorization_code":
		return c.AcquireTokenByAuthCode(ctx, r.Form.Get("code"), r.Form.Get("redirect_uri"), ofOneAPI(scopes), tenant,
			public.WithChallenge(r.Form.Get("code_verifier")))
	case len(scopes) == 0:
		return public.AuthResult{}, errNoScopes
	case grant == "refresh_token":
		return c.AcquireTokenSilent(ctx, scopes, tenant, public.WithClaims(r.Claims),
			public.WithSilentAccount(public.Account{HomeAccountID: spender}))
	case grant == "password":
		//nolint:staticcheck // who asks for it has no other way
		return c.AcquireTokenByUsernamePassword(ctx, scopes, r.Form.Get("username"), r.Form.Get("password"), tenant,
			public.WithClaims(r.Claims))
	}
	return public.AuthResult{}, errGrant
}

var errGrant = fmt.Errorf("msal: MSAL has no such request for this kind of client: %w", errors.ErrUnsupported)

// oidcScopes name no API.
var oidcScopes = []string{"openid", "profile", "email", "address", "phone", "offline_access"}

// ofOneAPI returns the scopes of the API that the first of them names, and those that
// name none. Entra ID issues a token for one API at a time; what is left out was
// consented to at the authorization endpoint.
func ofOneAPI(scopes []string) []string {
	var list []string
	first, found := "", false
	for _, s := range scopes {
		oidc := slices.Contains(oidcScopes, s)
		switch api := apiOf(s); {
		case oidc, found && api == first:
		case found:
			continue
		default:
			first, found = api, true
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		return []string{"openid"} // MSAL asks for one, and adds it anyway
	}
	return list
}

// apiOf is what comes before the name of the scope; Microsoft Graph's need nothing.
func apiOf(scope string) string {
	api := scope[:max(strings.LastIndexByte(scope, '/'), 0)]
	if strings.EqualFold(api, "https://graph.microsoft.com") {
		return ""
	}
	return api
}
