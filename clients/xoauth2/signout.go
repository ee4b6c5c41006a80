package xoauth2

import (
	"context"
	"net/url"
)

// SignOut removes the tokens of the context's user and has the server revoke
// the refresh token, if it can (RFC 7009). Ending the web session is the
// application's part, and ending the one at the authorization server is
// [Client.EndSessionURL]'s. Errors are those of [tokencache.Partition.SignOut],
// and [tokencache.ErrNoTokens] if nobody is signed in.
func (c *Client) SignOut(ctx context.Context) error {
	p, server, err := c.partition(ctx)
	if err != nil {
		return err
	}
	return p.SignOut(ctx, server)
}

// SignOutEverywhere is SignOut for everything that the account owns, in every
// browser and on every machine. Errors are those of
// [tokencache.Partition.SignOutEverywhere], and ErrNoTokens if nobody is signed
// in.
func (c *Client) SignOutEverywhere(ctx context.Context) error {
	p, server, err := c.partition(ctx)
	if err != nil {
		return err
	}
	return p.SignOutEverywhere(ctx, server)
}

// EndSessionURL returns the URL to send the browser to, after SignOut, to end
// its session at the authorization server (OpenID Connect RP-Initiated Logout
// 1.0 §2); "" if the server has none. From there the user is sent to
// postLogoutRedirect, which has to be registered, or to nowhere if it is empty.
// The client names itself by its ID, not by an ID token, so that no token is in
// the URL; some servers then ask the user to confirm.
func (c *Client) EndSessionURL(postLogoutRedirect string) string {
	u, err := url.Parse(c.meta.EndSession)
	if c.meta.EndSession == "" || err != nil {
		return ""
	}
	q := u.Query()
	q.Set("client_id", c.config.ClientID)
	if postLogoutRedirect != "" {
		q.Set("post_logout_redirect_uri", postLogoutRedirect)
	}
	u.RawQuery = q.Encode()
	return u.String()
}
