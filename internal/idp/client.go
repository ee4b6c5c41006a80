package idp

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Client is a registered client. It authenticates with client_secret_basic or
// client_secret_post if it has a Secret, and with private_key_jwt if it has a Key
// or a Certificate. It needs one of the three, or it is Public.
//
// A redirect URI is compared as a string. Only its port is free if it is an
// http URI of a loopback host, that is 127.0.0.1, [::1] or localhost (RFC 8252
// §7.3). The hosts are not interchangeable: register each one that is used.
type Client struct {
	ID     string // required
	Secret string

	// Key verifies client assertions (RFC 7523) of the client: an *rsa.PublicKey
	// of at least 2048 bits for RS256 and PS256, or an *ecdsa.PublicKey on P-256
	// for ES256.
	Key crypto.PublicKey

	// Certificate verifies client assertions whose header has the certificate's
	// x5t#S256 or x5t, as Entra ID has them. Its key is of the same kinds. It need
	// not be signed by anybody, but it has to be in its period of validity.
	Certificate *x509.Certificate

	// Public makes it a client that cannot keep a secret, such as one on a user's
	// device. It says who it is by client_id alone, and so may redeem codes and
	// device codes, refresh and revoke, but not act for itself or as an API.
	Public bool

	// PublicPassword lets a client that is not Public use the password grant without
	// a proof of who it is, as Entra ID does where the registration allows public
	// client flows. Without it the client has to authenticate for this grant too.
	PublicPassword bool

	// RedirectURIs are where the authorization endpoint may send its answer. At
	// least one is required, unless the client is Public or has Audiences.
	RedirectURIs []string

	// PostLogoutRedirectURIs are where the logout endpoint may send the browser.
	// With none, signing out always ends on a page of this server.
	PostLogoutRedirectURIs []string

	// BackChannelLogoutURI gets a logout token (OpenID Connect Back-Channel
	// Logout 1.0) when a session ends in which the client got an ID token. It is
	// https, or http on a loopback host. None by default.
	BackChannelLogoutURI string

	// BackChannelLogoutSessionRequired makes every logout token have a sid. The
	// others lack it after [Server.RevokeUser], which is about all sessions.
	BackChannelLogoutSessionRequired bool

	// BackChannelLogoutSessionOnly leaves sub out of logout tokens that have a sid.
	BackChannelLogoutSessionOnly bool

	// Audiences are the names of the API that this client is, such as
	// api://name. The client may exchange users' access tokens for these
	// audiences, and for its own ID, on behalf of the user. Each belongs to one
	// client.
	Audiences []string
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

// index validates clients and makes them findable by ID.
func index(clients []Client) (map[string]*Client, error) {
	byID := make(map[string]*Client, len(clients))
	for i, c := range clients {
		switch {
		case c.ID == "":
			return nil, fmt.Errorf("idp: client %d: ID is required", i)
		case c.Public && (c.confidential() || len(c.Audiences) > 0):
			return nil, fmt.Errorf("idp: client %q: a Public client has no Secret, Key, Certificate or Audiences", c.ID)
		case !c.Public && !c.confidential():
			return nil, fmt.Errorf("idp: client %q: Secret, Key or Certificate is required", c.ID)
		case byID[c.ID] != nil:
			return nil, fmt.Errorf("idp: client %q is registered twice", c.ID)
		case len(c.RedirectURIs) == 0 && len(c.Audiences) == 0 && !c.Public:
			return nil, fmt.Errorf("idp: client %q: at least one redirect URI is required", c.ID)
		}
		c.Audiences = append([]string(nil), c.Audiences...)
		c.RedirectURIs = append([]string(nil), c.RedirectURIs...)
		c.PostLogoutRedirectURIs = append([]string(nil), c.PostLogoutRedirectURIs...)
		for _, uri := range append(c.RedirectURIs[:len(c.RedirectURIs):len(c.RedirectURIs)], c.PostLogoutRedirectURIs...) {
			if err := validRedirectURI(uri); err != nil {
				return nil, fmt.Errorf("idp: client %q: %w", c.ID, err)
			}
		}
		if c.BackChannelLogoutURI != "" {
			if err := validLogoutURI(c.BackChannelLogoutURI); err != nil {
				return nil, fmt.Errorf("idp: client %q: %w", c.ID, err)
			}
		}
		if err := c.validKeys(); err != nil {
			return nil, fmt.Errorf("idp: client %q: %w", c.ID, err)
		}
		byID[c.ID] = &c
	}
	return byID, validAudiences(byID)
}

// validAudiences refuses an audience that two clients claim: a token would then
// be good for the one that its user never heard of.
func validAudiences(byID map[string]*Client) error {
	owner := make(map[string]string)
	for id := range byID {
		owner[id] = id
	}
	for id, c := range byID {
		for _, audience := range c.Audiences {
			if audience == "" || !isVisible(audience) {
				return fmt.Errorf("idp: client %q: an audience must be 1 to 2048 printable ASCII characters", id)
			}
			if other, ok := owner[audience]; ok && other != id {
				return fmt.Errorf("idp: audience %q belongs to two clients", audience)
			}
			owner[audience] = id
		}
	}
	return nil
}

// confidential reports whether a client can prove who it is.
func (c *Client) confidential() bool { return c.Secret != "" || c.Key != nil || c.Certificate != nil }

func (c *Client) validKeys() error {
	if c.Key != nil {
		if err := validKey(c.Key); err != nil {
			return err
		}
	}
	if c.Certificate != nil {
		return validKey(c.Certificate.PublicKey)
	}
	return nil
}

// isAudience reports whether a token for audience is meant for this client.
func (c *Client) isAudience(audience string) bool {
	return audience == c.ID || slices.Contains(c.Audiences, audience)
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
