package xoauth2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Options are the settings of a [Client]. The zero value of each field means
// its default.
type Options struct {
	// ClientSecret authenticates the application at the token endpoint, with
	// client_secret_basic unless the server offers client_secret_post alone
	// (OpenID Connect Core §9). Without it and ClientAssertion the client is a
	// public one.
	ClientSecret string

	// ClientAssertion authenticates the application in place of a secret, with a
	// signed JWT (RFC 7523 §2.2). [SignAssertion] makes one from a private key;
	// another function may ask a key management service, or read the token of a
	// workload identity from its file. It is called for each request to the
	// server that needs it, by many goroutines at once, with the audience that is
	// usual: the token endpoint, of the request's tenant. It must return when its
	// context ends, which is after 10 seconds at the latest.
	//
	// An error ends the request. Its text is not repeated, as it may tell of the
	// key; errors.Is and errors.As find it, unless it is one that a cache or a
	// client would take for an answer about the user.
	ClientAssertion func(ctx context.Context, audience string) (string, error)

	// RedirectURL is where the server sends the browser after a sign-in: an
	// absolute URL without a fragment, registered at the server. Required for
	// signing in, but with [Client.SignInWithBrowser], which has a default.
	RedirectURL string

	// Scopes are asked for at each sign-in, and by [Client.Token] if it is given
	// none. At a sign-in openid is added, and offline_access unless the server
	// publishes a list of scopes without it. Add profile to have the user's
	// name in [tokencache.Account]. None by default.
	Scopes []string

	// Exchange, unless nil, makes the token requests in place of this package, which
	// sends them to the token endpoint as RFC 6749 has it. The package clients/msal is
	// one that has Microsoft's library do it. It returns what the server has answered,
	// whatever its status; an error of the HTTP client is a *[tokencache.ServerError]
	// for the caller, and any other is the caller's as it is. It is called by many
	// goroutines at once.
	Exchange func(ctx context.Context, r *TokenRequest) (*http.Response, error)

	// HTTPClient is used for discovery, keys, tokens and revocation. It is
	// copied: the copy follows no redirects, keeps no cookies, because users
	// share it, and reads at most 1 MiB of an answer. Without a Timeout it gets
	// one of 10 seconds. Defaults to one with [http.DefaultTransport].
	HTTPClient *http.Client
}

// Client is a client of one authorization server, for one cache. An
// application builds one for its lifetime. It is safe for concurrent use.
type Client struct {
	cache  *tokencache.Cache
	config *oauth2.Config // without the secret
	meta   *metadata
	http   *http.Client
	keys   *serverKeys
	scopes []string // Options.Scopes
	basic  []string // openid, and offline_access where it is known

	secret    func() string                                                // Options.ClientSecret; of a function fmt prints the address, whatever the verb
	assertion func(ctx context.Context, audience string) (string, error)   // Options.ClientAssertion, or nil
	exchanger func(context.Context, *TokenRequest) (*http.Response, error) // Options.Exchange, or nil
}

// New returns a client of the authorization server that the cache's namespace
// names, and of the client ID in it. It asks the server for its endpoints once
// (OpenID Connect Discovery 1.0 §4) and starts nothing; ctx is for that request
// only.
//
// Errors: *[tokencache.ServerError] if the server does not answer, ctx's error,
// or one that says what is wrong with an option or the server's metadata.
func New(ctx context.Context, cache *tokencache.Cache, o *Options) (*Client, error) {
	if cache == nil {
		return nil, errors.New("xoauth2: the cache is nil")
	}
	if o == nil {
		o = &Options{}
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	ns, secret := cache.Namespace(), o.ClientSecret // a copy: the options may change
	hc := newHTTPClient(o.HTTPClient)
	meta, err := discover(ctx, hc, ns.Issuer)
	if err != nil {
		return nil, err
	}
	return &Client{
		cache: cache,
		config: &oauth2.Config{
			ClientID:    ns.ClientID,
			RedirectURL: o.RedirectURL,
			Endpoint:    oauth2.Endpoint{AuthURL: meta.Authorization, TokenURL: meta.Token},
		},
		meta:   meta,
		http:   hc,
		keys:   newServerKeys(ctx, hc, meta),
		scopes: slices.Clone(o.Scopes),
		basic:  meta.basicScopes(),

		secret:    func() string { return secret },
		assertion: o.ClientAssertion,
		exchanger: o.Exchange,
	}, nil
}

func (o *Options) check() error {
	if o.ClientSecret != "" && o.ClientAssertion != nil {
		return errors.New("xoauth2: Options.ClientSecret and Options.ClientAssertion exclude each other")
	}
	if o.RedirectURL != "" {
		u, err := url.Parse(o.RedirectURL)
		if err != nil || !u.IsAbs() || u.Host == "" && u.Opaque == "" && u.Path == "" || strings.Contains(o.RedirectURL, "#") {
			return errors.New("xoauth2: Options.RedirectURL must be an absolute URL without a fragment")
		}
	}
	return checkScopes(o.Scopes)
}

// checkScopes refuses what is not one scope (RFC 6749 §3.3). A scope with a
// space in it would silently become two.
func checkScopes(scopes []string) error {
	for _, s := range scopes {
		if s == "" || strings.ContainsFunc(s, notScopeRune) {
			return fmt.Errorf("xoauth2: %q is not a scope", s)
		}
	}
	return nil
}

func notScopeRune(r rune) bool {
	return r <= ' ' || r == '"' || r == '\\' || r > '~'
}

// union returns the scopes of all lists in their order, each once.
func union(lists ...[]string) []string {
	var out []string
	for _, list := range lists {
		for _, s := range list {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
