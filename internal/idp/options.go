package idp

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// What a server uses unless its [Options] say otherwise.
const (
	// DefaultTenant is the tenant ID of [Server.TenantURL] and of every token.
	DefaultTenant = "11111111-2222-3333-4444-555555555555"

	// DefaultClientID and DefaultClientSecret belong to the one client that is
	// registered by default. They are public; they protect nothing.
	DefaultClientID     = "coatcheck-example"
	DefaultClientSecret = "coatcheck-example-secret-for-local-use-only"

	// DefaultAudience is the audience of access tokens that were asked for
	// without a resource or a scope that names one. The protected API accepts
	// this audience only.
	DefaultAudience = "api://coatcheck-example"
)

const (
	defaultTokenLifetime = 10 * time.Minute
	minTokenLifetime     = time.Second // JWT times are whole seconds here
	maxTokenLifetime     = familyLifetime
)

// Options configure a server. The zero value of each field is its default.
type Options struct {
	// Tenant is the tenant ID: letters, digits, dots and dashes, at most 64
	// characters. Defaults to [DefaultTenant].
	Tenant string

	// TokenLifetime is how long access tokens and ID tokens are valid, from one
	// second to 24 hours. Defaults to 10 minutes. MSAL treats an access token
	// with less than 5 minutes to live as expired.
	TokenLifetime time.Duration

	// AutoLogin makes the authorization endpoint sign the user of login_hint in
	// at once, for clients that have no browser. A request without a usable
	// login_hint gets the login form all the same. Off by default.
	AutoLogin bool

	// Clients are the registered clients. Defaults to one client with
	// [DefaultClientID], [DefaultClientSecret], the redirect URI
	// http://127.0.0.1/callback and the post-logout redirect URI
	// http://127.0.0.1/, both also for localhost and [::1].
	Clients []Client
}

// Client is a registered confidential client. It authenticates with
// client_secret_basic or client_secret_post.
//
// A redirect URI is compared as a string. Only its port is free if it is an
// http URI of a loopback host, that is 127.0.0.1, [::1] or localhost (RFC 8252
// §7.3). The hosts are not interchangeable: register each one that is used.
type Client struct {
	ID     string // required
	Secret string // required

	// RedirectURIs are where the authorization endpoint may send its answer.
	// At least one is required.
	RedirectURIs []string

	// PostLogoutRedirectURIs are where the logout endpoint may send the browser.
	// With none, signing out always ends on a page of this server.
	PostLogoutRedirectURIs []string
}

func defaultClient() Client {
	return Client{
		ID:     DefaultClientID,
		Secret: DefaultClientSecret,
		RedirectURIs: []string{
			"http://127.0.0.1/callback", "http://localhost/callback", "http://[::1]/callback",
		},
		PostLogoutRedirectURIs: []string{"http://127.0.0.1/", "http://localhost/", "http://[::1]/"},
	}
}

// withDefaults returns a validated copy of o, so that a caller who changes its
// Options later does not race with the server.
func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Tenant == "" {
		c.Tenant = DefaultTenant
	}
	if c.TokenLifetime == 0 {
		c.TokenLifetime = defaultTokenLifetime
	}
	if len(c.Clients) == 0 {
		c.Clients = []Client{defaultClient()}
	}
	if !validTenant(c.Tenant) {
		return Options{}, errors.New("idp: Tenant must be 1 to 64 letters, digits, dots or dashes")
	}
	if c.TokenLifetime < minTokenLifetime || c.TokenLifetime > maxTokenLifetime {
		return Options{}, fmt.Errorf("idp: TokenLifetime must be between %s and %s", minTokenLifetime, maxTokenLifetime)
	}
	return c, nil
}

// validTenant keeps the tenant to what means the same in a URL path, in a
// pattern of http.ServeMux and in a JWT. A leading dot would be a path step.
func validTenant(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-"
	if s == "" || len(s) > 64 || s[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(allowed, r) })
}

// index validates clients and makes them findable by ID.
func index(clients []Client) (map[string]*Client, error) {
	byID := make(map[string]*Client, len(clients))
	for i, c := range clients {
		switch {
		case c.ID == "" || c.Secret == "":
			return nil, fmt.Errorf("idp: client %d: ID and Secret are required", i)
		case byID[c.ID] != nil:
			return nil, fmt.Errorf("idp: client %q is registered twice", c.ID)
		case len(c.RedirectURIs) == 0:
			return nil, fmt.Errorf("idp: client %q: at least one redirect URI is required", c.ID)
		}
		c.RedirectURIs = append([]string(nil), c.RedirectURIs...)
		c.PostLogoutRedirectURIs = append([]string(nil), c.PostLogoutRedirectURIs...)
		for _, uri := range append(c.RedirectURIs[:len(c.RedirectURIs):len(c.RedirectURIs)], c.PostLogoutRedirectURIs...) {
			if err := validRedirectURI(uri); err != nil {
				return nil, fmt.Errorf("idp: client %q: %w", c.ID, err)
			}
		}
		byID[c.ID] = &c
	}
	return byID, nil
}

// validRedirectURI holds registrations to RFC 6749 §3.1.2: absolute and
// without a fragment. User information is refused because it serves only to
// make a URI look as if it led elsewhere.
func validRedirectURI(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" || u.User != nil || strings.Contains(raw, "#") {
		return fmt.Errorf("redirect URI %q must be absolute, without fragment and user information", raw)
	}
	if (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() == "" {
		return fmt.Errorf("redirect URI %q has no host", raw)
	}
	if u.Scheme == "javascript" || u.Scheme == "data" {
		return fmt.Errorf("redirect URI %q has a scheme that runs in the browser", raw)
	}
	return nil
}
