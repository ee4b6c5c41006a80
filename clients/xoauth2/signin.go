package xoauth2

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// SignInOptions are the parameters of one sign-in (OpenID Connect Core
// §3.1.2.1). The zero value of each field leaves the parameter out.
type SignInOptions struct {
	// Scopes are asked for before those of [Options], for instance those of a
	// [tokencache.InteractionRequiredError].
	Scopes []string
	// LoginHint is the user who is expected, say a preferred_username.
	LoginHint string
	// Prompt is none, login, consent, select_account, or several of these with
	// spaces between them.
	Prompt string
	// Claims is a claims request, a JSON object (§5.5), for instance that of an
	// InteractionRequiredError.
	Claims string
	// Session, unless it is empty, keeps the tokens apart from those of the user's
	// other browsers, under this name (see [tokencache.Cache.SignInSession]). The
	// server is not told. Draw it at random, for instance with [crypto/rand.Text].
	Session string
	// Account, unless it is empty, is the only one that may sign in, say that of the
	// ticket of whoever is signed in already ([tokencache.Ticket.Account]). The server
	// is not told; LoginHint tells it.
	Account string
}

// BeginSignIn returns the URL to redirect the browser to, and what the
// browser's session must keep until it comes back. A nil o means no
// parameters. Nothing is sent anywhere. The application may add parameters that
// only its server knows to the URL.
func (c *Client) BeginSignIn(o *SignInOptions) (authURL string, s SignIn, err error) {
	if c.config.RedirectURL == "" {
		return "", SignIn{}, errors.New("xoauth2: signing in needs Options.RedirectURL")
	}
	return c.begin(o, "")
}

// begin is BeginSignIn with a redirect URL in the place of [Options.RedirectURL],
// unless it is empty.
func (c *Client) begin(o *SignInOptions, redirect string) (authURL string, s SignIn, err error) {
	if o == nil {
		o = &SignInOptions{}
	}
	switch {
	case o.Claims != "" && !isJSONObject(o.Claims):
		return "", SignIn{}, errors.New("xoauth2: SignInOptions.Claims is not a JSON object")
	}
	if err := checkScopes(o.Scopes); err != nil {
		return "", SignIn{}, err
	}
	p := &pending{
		Issuer:   c.cache.Namespace().Issuer,
		State:    random(),
		Nonce:    random(),
		Verifier: oauth2.GenerateVerifier(),
		Scopes:   union(o.Scopes, c.scopes),
		Session:  o.Session,
		Account:  o.Account,
		Redirect: redirect,
		Started:  time.Now().Unix(),
	}
	config := *c.config
	config.Scopes = union(c.basic, p.Scopes)
	config.RedirectURL = cmp.Or(redirect, config.RedirectURL)
	params := []oauth2.AuthCodeOption{oidc.Nonce(p.Nonce), oauth2.S256ChallengeOption(p.Verifier)}
	for _, param := range [][2]string{
		{"login_hint", o.LoginHint}, {"prompt", o.Prompt}, {"claims", o.Claims},
	} {
		if param[1] != "" {
			params = append(params, oauth2.SetAuthURLParam(param[0], param[1]))
		}
	}
	return config.AuthCodeURL(p.State, params...), SignIn{p}, nil
}

// random returns 32 random bytes as text for a URL.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// CompleteSignIn takes the parameters that the browser brought to the redirect
// URL (r.URL.Query(), or r.PostForm with response_mode=form_post), exchanges the
// code, verifies the ID token and stores the tokens. The ticket is for the
// session, in the place of s.
//
// Errors: [ErrCallback] if the request does not belong to s, [ErrDenied], [ErrOtherUser],
// *[tokencache.InteractionRequiredError] if the server needs the user after
// prompt=none, [ErrIDToken], *[ProtocolError], *[tokencache.ServerError],
// [tokencache.ErrUnavailable] if the tokens could not be stored, and the other
// errors of [tokencache.Cache.SignIn].
func (c *Client) CompleteSignIn(ctx context.Context, s SignIn, callback url.Values) (tokencache.Ticket, error) {
	code, err := c.code(s, callback)
	if err != nil {
		return tokencache.Ticket{}, err
	}
	exchange := func(ctx context.Context) (tokencache.Grant, error) { return c.exchange(ctx, s.pending, code) }
	if s.pending.Session != "" {
		return c.cache.SignInSession(ctx, s.pending.Session, exchange)
	}
	return c.cache.SignIn(ctx, exchange)
}

// exchange redeems the code (RFC 6749 §4.1.3, RFC 7636 §4.5).
func (c *Client) exchange(ctx context.Context, p *pending, code string) (tokencache.Grant, error) {
	req := &tokencache.Request{Scopes: p.Scopes}
	g, r, err := c.request(ctx, req, url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"redirect_uri":  {cmp.Or(p.Redirect, c.config.RedirectURL)}, // as it was at the authorization request
		"code_verifier": {p.Verifier},
	})
	if isInvalidGrant(err) {
		return tokencache.Grant{}, badCallback("the authorization server refused the code: it was used before, or is too old")
	}
	if err != nil {
		return tokencache.Grant{}, err
	}
	id, err := c.user(ctx, r)
	if err != nil {
		return tokencache.Grant{}, err
	}
	if err := id.checkNonce(p.Nonce); err != nil {
		return tokencache.Grant{}, err
	}
	g = r.signedIn(g, id, p.Scopes)
	// A home account is made of GUIDs; subjects are compared byte for byte (§2).
	same := p.Account == g.Account.ID ||
		parseHomeAccount(r.ClientInfo).id() != "" && strings.EqualFold(p.Account, g.Account.ID)
	if p.Account != "" && !same {
		return tokencache.Grant{}, ErrOtherUser
	}
	return g, nil
}

// user verifies who has signed in.
func (c *Client) user(ctx context.Context, r *tokenResponse) (*idClaims, error) {
	if r.IDToken == "" {
		return nil, badIDToken("there is none")
	}
	id, err := c.verify(ctx, r.IDToken, "")
	if err != nil {
		return nil, err
	}
	if !parseHomeAccount(r.ClientInfo).agrees(id) {
		return nil, badIDToken("client_info is about another user")
	}
	return id, nil
}

// signedIn completes the grant of a sign-in.
func (r *tokenResponse) signedIn(g tokencache.Grant, id *idClaims, requested []string) tokencache.Grant {
	if g.Scopes == nil {
		g.Scopes = requested // RFC 6749 §5.1
	}
	g.IDToken, g.ClientInfo = tokencache.Secret(r.IDToken), r.ClientInfo
	g.Account, g.SID = id.account(parseHomeAccount(r.ClientInfo)), id.session
	return g
}
