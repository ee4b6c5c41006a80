package msal

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Options are the settings of a client. The zero value of each field means its default.
type Options struct {
	// ClientSecret, ClientAssertion and Credential are ways to prove who the
	// application is, of which it has at most one. Without any it is a public client.
	//
	// The first two are those of [xoauth2.Options]; the audience of an assertion is the
	// token endpoint. With a workload identity, ClientAssertion reads its file.
	ClientSecret    string
	ClientAssertion func(ctx context.Context, audience string) (string, error)
	// Credential is one of MSAL's, such as a certificate
	// ([confidential.NewCredFromCert]). That of [confidential.NewCredFromTokenProvider]
	// is for the application's own tokens alone.
	Credential *confidential.Credential

	// RedirectURL and Scopes are those of [xoauth2.Options]. With a sign-in that asks
	// for scopes of several APIs comes a token for the first one; the user has agreed
	// to the others, whose tokens are obtained when they are needed. A sign-in asks for
	// profile too, as MSAL always does.
	RedirectURL string
	Scopes      []string

	// HTTPClient is that of [xoauth2.Options]; MSAL uses it too.
	HTTPClient *http.Client

	// Authority is MSAL's name of the authorization server, an https URL. Defaults to
	// the issuer of the cache's namespace without the /v2.0 at its end.
	Authority string

	// AzureRegion sends the requests for the application's own tokens to the region of
	// that name, or with [confidential.AutoDetectRegion] to the one that it runs in,
	// which MSAL asks the platform for with each request. None by default.
	AzureRegion string

	// Capabilities are the client capabilities, such as cp1: the application can handle
	// claims challenges (continuous access evaluation). None by default.
	Capabilities []string

	// SendX5C sends the certificate of Credential along, for subject name and issuer
	// authentication.
	SendX5C bool

	// DisableInstanceDiscovery keeps MSAL from asking Microsoft whether it knows the
	// authority's host: for servers of one's own, which it does not know. Without it,
	// MSAL finds no refresh token there.
	DisableInstanceDiscovery bool
}

// New returns a client of the authorization server that the cache's namespace names; see
// [xoauth2.New]. Its methods are safe for concurrent use.
//
// Beside the errors that xoauth2 has, a token that MSAL made no request for is an error
// that tells no more than that; its cause, found by [errors.As], may hold personal data.
// One that is [errors.ErrUnsupported] names what MSAL cannot do: a resource
// ([tokencache.Request].Resource), a request without scopes, a device sign-in by a client
// that is not public.
func New(ctx context.Context, cache *tokencache.Cache, o *Options) (*xoauth2.Client, error) {
	if cache == nil {
		return nil, errors.New("msal: the cache is nil")
	}
	if o == nil {
		o = &Options{}
	}
	e, err := newEngine(cache.Namespace(), o)
	if err != nil {
		return nil, err
	}
	return xoauth2.New(ctx, cache, &xoauth2.Options{
		ClientSecret:    o.ClientSecret,
		ClientAssertion: o.ClientAssertion,
		RedirectURL:     o.RedirectURL,
		Scopes:          o.scopes(),
		HTTPClient:      o.HTTPClient,
		Exchange:        e.exchange,
	})
}

// scopes are those of a sign-in with profile among them, as MSAL asks for it with each
// token. A server could refuse what the user was not asked for.
func (o *Options) scopes() []string {
	public := o.ClientSecret == "" && o.ClientAssertion == nil && o.Credential == nil // signs in without a RedirectURL too
	if o.RedirectURL == "" && !public || slices.Contains(o.Scopes, "profile") {
		return o.Scopes
	}
	return append(slices.Clone(o.Scopes), "profile")
}

// authority returns [Options].Authority, or its default.
func (o *Options) authority(issuer string) string {
	if o.Authority != "" {
		return o.Authority
	}
	return strings.TrimSuffix(issuer, "/v2.0")
}

// credential returns the one credential, nil for a public client.
func (o *Options) credential() (*confidential.Credential, error) {
	var all []*confidential.Credential
	if o.ClientSecret != "" {
		c, err := confidential.NewCredFromSecret(o.ClientSecret)
		if err != nil {
			return nil, errors.New("msal: Options.ClientSecret is not valid")
		}
		all = append(all, &c)
	}
	if assertion := o.ClientAssertion; assertion != nil {
		c := confidential.NewCredFromAssertionCallback(
			func(ctx context.Context, r confidential.AssertionRequestOptions) (string, error) {
				ctx, cancel := context.WithTimeout(ctx, assertionTimeout)
				defer cancel()
				return assertion(ctx, r.TokenEndpoint)
			})
		all = append(all, &c)
	}
	if o.Credential != nil {
		all = append(all, o.Credential)
	}
	switch len(all) {
	case 0:
		return nil, nil //nolint:nilnil // a public client
	case 1:
		return all[0], nil
	}
	return nil, errors.New("msal: Options.ClientSecret, ClientAssertion and Credential exclude each other")
}
