package idp

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
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

	defaultDeviceLifetime = 15 * time.Minute // that of Entra ID
	maxDeviceLifetime     = time.Hour
	defaultDeviceInterval = 5 * time.Second // RFC 8628 §3.2
	maxDeviceInterval     = time.Minute
)

// Options configure a server. The zero value of each field is its default.
type Options struct {
	// Tenant is the tenant ID: letters, digits, dots and dashes, at most 64
	// characters. Defaults to [DefaultTenant].
	Tenant string

	// TLS makes the server speak https, with a [Server.Certificate] of its own making
	// that a client has to be told to trust. Its URLs and issuers are https then.
	// Off by default.
	TLS bool

	// TokenLifetime is how long access tokens and ID tokens are valid, from one
	// second to 24 hours. Defaults to 10 minutes. MSAL treats an access token
	// with less than 5 minutes to live as expired.
	TokenLifetime time.Duration

	// CAETokenLifetime is TokenLifetime for access tokens that a client asks for with
	// the capability of continuous access evaluation ("cp1" in the claims parameter of
	// the token request), which say so in xms_cc. Defaults to TokenLifetime. (Those of
	// Entra ID live for up to 28 hours.)
	CAETokenLifetime time.Duration

	// Consent makes users allow a client the scopes of an API before it gets a
	// token for them: on a page of the authorization endpoint, or through
	// [Server.Consent]. Until then the token endpoint answers with consent_required,
	// at the tenant's issuer with invalid_grant and the suberror consent_required
	// as Entra ID does. Signing in a device allows what it asks for. Off by default.
	Consent bool

	// Consented are scopes that an administrator has allowed to every client for
	// all users, who are not asked for them: all that names an API, such as
	// api://name/Scope. None by default.
	Consented []string

	// DeviceLifetime is how long a device code is valid, from one second to one
	// hour. Defaults to 15 minutes.
	DeviceLifetime time.Duration

	// DeviceInterval is how long a device has to wait before it asks again, in
	// whole seconds from one second to one minute. Defaults to 5 seconds.
	DeviceInterval time.Duration

	// AutoLogin makes the authorization endpoint sign the user of login_hint in
	// at once, for clients that have no browser. A request without a usable
	// login_hint gets the login form all the same. Off by default.
	AutoLogin bool

	// Passwords are what users sign in with by the password grant (RFC 6749 §4.3), by
	// user name; in the browser nobody is asked for them. None by default: the grant
	// is then unsupported_grant_type.
	Passwords map[string]string

	// BackChannelRootCAs are the authorities that are trusted when logout tokens
	// are sent to clients on https. Defaults to those of the machine.
	BackChannelRootCAs *x509.CertPool

	// Clients are the registered clients. Defaults to one client with
	// [DefaultClientID], [DefaultClientSecret], the redirect URI
	// http://127.0.0.1/callback and the post-logout redirect URI
	// http://127.0.0.1/, both also for localhost and [::1].
	Clients []Client
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
	if c.CAETokenLifetime == 0 {
		c.CAETokenLifetime = c.TokenLifetime
	}
	if c.DeviceLifetime == 0 {
		c.DeviceLifetime = defaultDeviceLifetime
	}
	if c.DeviceInterval == 0 {
		c.DeviceInterval = defaultDeviceInterval
	}
	c.Consented = append([]string(nil), c.Consented...)
	if slices.ContainsFunc(c.Consented, func(scope string) bool { return scope == "" || !isScopeToken(scope) }) {
		return Options{}, errors.New("idp: Consented has a scope that is not well-formed")
	}
	var err error
	if c.Passwords, err = passwordsByUser(c.Passwords); err != nil {
		return Options{}, err
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
	if c.CAETokenLifetime < minTokenLifetime || c.CAETokenLifetime > maxTokenLifetime {
		return Options{}, fmt.Errorf("idp: CAETokenLifetime must be between %s and %s", minTokenLifetime, maxTokenLifetime)
	}
	if c.DeviceLifetime < time.Second || c.DeviceLifetime > maxDeviceLifetime {
		return Options{}, fmt.Errorf("idp: DeviceLifetime must be between %s and %s", time.Second, maxDeviceLifetime)
	}
	if c.DeviceInterval < time.Second || c.DeviceInterval > maxDeviceInterval || c.DeviceInterval%time.Second != 0 {
		return Options{}, fmt.Errorf("idp: DeviceInterval must be whole seconds between %s and %s", time.Second, maxDeviceInterval)
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
