package xoauth2

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TokenRequest is a request to the token endpoint (RFC 6749 §3.2), without the proof of
// who the client is, for [Options].Exchange.
type TokenRequest struct {
	// Request is what the token is for. Its scopes are those of the application, to
	// which Form adds openid and offline_access.
	tokencache.Request
	// Form has the parameters: grant_type, and those of the grant. Without grant_type it
	// is a device authorization request (RFC 8628 §3.1), for the endpoint of that name.
	Form url.Values
	// HTTPClient is [Options].HTTPClient, bounded as it says there. Answers that are
	// read through it have at most 1 MiB.
	HTTPClient *http.Client
}

// postToken asks the token endpoint, or that of devices.
func (c *Client) postToken(ctx context.Context, endpoint string, req *tokencache.Request, form url.Values) (*answer, error) {
	if c.exchanger == nil {
		return c.post(ctx, endpoint, inBody(c.meta.TokenAuth), form)
	}
	resp, err := c.exchanger(ctx, &TokenRequest{Request: *req, Form: form, HTTPClient: c.http})
	var unsent *url.Error // of the HTTP client
	switch {
	case err != nil && (ctx.Err() != nil || errors.As(err, &unsent)):
		return nil, unheard(ctx, err)
	case err != nil:
		return nil, err
	}
	return read(ctx, resp)
}

// read reads an answer whatever its status, and closes it.
func read(ctx context.Context, resp *http.Response) (*answer, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, unheard(ctx, err)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}
