package xoauth2

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	grantPassword  = "password" // RFC 6749 §4.3.2
	maxCredentials = 16 << 10   // bytes of user name and password together
)

// PasswordOptions are the parameters of a sign-in with a password. The zero value of
// each field leaves the parameter out.
type PasswordOptions struct {
	// Scopes are asked for before those of [Options].
	Scopes []string
	// Claims is a claims request, a JSON object (OpenID Connect Core §5.5), which not
	// every server reads with a password.
	Claims string
	// Session is that of [SignInOptions].
	Session string
}

// SignInWithPassword sends the user's name and password to the server (RFC 6749 §4.3),
// verifies the ID token and stores the tokens. A nil o means no parameters.
// [Options.RedirectURL] is not needed. It asks once, and keeps neither name nor
// password; what comes later is done with the refresh token.
//
// Do not use it where there is a browser or a second device. The application sees the
// password, its users learn to type it anywhere, and there is no second factor, no
// single sign-on and no consent; RFC 9700 §2.4 says that the grant must not be used, and
// Microsoft Entra ID refuses it for personal accounts. It is for tests that run without
// a person, for migrations from a login form, and for accounts of devices that nobody
// sits in front of. The password is the application's to keep from logs, and attempts
// are the application's to limit.
//
// User name and password are at most 16 KiB together, neither is empty, and both are
// UTF-8 without control characters (RFC 6749 appendix A): others are not sent.
//
// Errors: [ErrPassword], *[tokencache.InteractionRequiredError] if the user has to do
// what takes a browser, say show a second factor or consent, [ErrDenied], one that is
// [errors.ErrUnsupported] if the server says that it does not offer this, [ErrIDToken],
// *[ProtocolError], *[tokencache.ServerError], ctx's, and those of
// [tokencache.Cache.SignIn]. None shows the user name or the password.
func (c *Client) SignInWithPassword(ctx context.Context, username, password string, o *PasswordOptions) (tokencache.Ticket, error) {
	if o == nil {
		o = &PasswordOptions{}
	}
	switch {
	case len(c.meta.Grants) > 0 && !slices.Contains(c.meta.Grants, grantPassword):
		return tokencache.Ticket{}, fmt.Errorf("xoauth2: the authorization server takes no passwords from clients: %w", errors.ErrUnsupported)
	case o.Claims != "" && !isJSONObject(o.Claims):
		return tokencache.Ticket{}, errors.New("xoauth2: PasswordOptions.Claims is not a JSON object")
	}
	if err := checkScopes(o.Scopes); err != nil {
		return tokencache.Ticket{}, err
	}
	if err := checkCredentials(username, password); err != nil {
		return tokencache.Ticket{}, err
	}
	scopes := union(o.Scopes, c.scopes)
	exchange := func(ctx context.Context) (tokencache.Grant, error) {
		req := &tokencache.Request{Scopes: scopes, Claims: o.Claims}
		g, r, err := c.request(ctx, req, url.Values{
			"grant_type": {grantPassword},
			"username":   {username},
			"password":   {password},
			"scope":      {strings.Join(union(c.basic, scopes), " ")},
		})
		if err != nil {
			return tokencache.Grant{}, passwordError(err, req)
		}
		id, err := c.user(ctx, r)
		if err != nil {
			return tokencache.Grant{}, err
		}
		return r.signedIn(g, id, scopes), nil
	}
	if o.Session != "" {
		return c.cache.SignInSession(ctx, o.Session, exchange)
	}
	return c.cache.SignIn(ctx, exchange)
}

// checkCredentials refuses what no server can accept. An empty password does not get
// as far as a server's directory: some take it for a wish to be anonymous, and agree
// (RFC 4513 §5.1.2).
func checkCredentials(username, password string) error {
	switch {
	case username == "" || password == "":
		return fmt.Errorf("%w: one of them is empty", ErrPassword)
	case len(username)+len(password) > maxCredentials:
		return fmt.Errorf("%w: they are longer than 16 KiB", ErrPassword)
	case notCredential(username) || notCredential(password):
		return fmt.Errorf("%w: one of them has characters that RFC 6749 does not allow", ErrPassword)
	}
	return nil
}

// notCredential is the opposite of UNICODECHARNOCRLF (RFC 6749 appendix A).
func notCredential(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' && r != '\t' || r == 0x7f || r == 0xfffe || r == 0xffff
	})
}

// passwordError sorts an error of the token endpoint.
func passwordError(err error, req *tokencache.Request) error {
	var refused *ProtocolError
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	case "invalid_grant":
		return ErrPassword
	case "access_denied":
		return ErrDenied
	case "mfa_required": // Auth0's name for it
		return &tokencache.InteractionRequiredError{Code: "interaction_required", Scopes: req.Scopes, Claims: req.Claims}
	}
	return err
}
