package xoauth2

import (
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TransportOptions are the settings of [Client.Transport].
type TransportOptions struct {
	// Origins are those of the API that the token is for, and the only ones it
	// is sent to: scheme://host or scheme://host:port, https, or http on a
	// loopback address. Required.
	Origins []string
	// Scopes are those of the token; none means those of [Options].
	Scopes []string
	// Base sends the requests. Defaults to [http.DefaultTransport].
	Base http.RoundTripper
}

// Transport returns a round tripper that sends each request with a token of the
// user of the request's context, as [Client.Token] finds it. It is safe for
// concurrent use by the requests of all users; requests are never changed.
//
// A request passes without the token if it goes to another origin, if it
// follows a redirect from another origin, or if the caller has set an
// Authorization header, which is left alone.
//
// When the API answers 401 with a Bearer challenge of invalid_token (RFC 6750
// §3.1) or with a claims challenge (insufficient_claims, as Entra ID's APIs
// send it), the token is replaced and the request sent once more, if it has no
// body or has GetBody. Any other answer is returned as it is.
//
// Errors of getting a token, the first or the replacement, are Token's, and
// reach the caller of [http.Client] inside a *[net/url.Error]; errors.Is and
// errors.As find them. An InteractionRequiredError then carries the challenge's
// claims.
func (c *Client) Transport(o *TransportOptions) (http.RoundTripper, error) {
	if o == nil || len(o.Origins) == 0 {
		return nil, errors.New("xoauth2: TransportOptions.Origins is empty")
	}
	t := &transport{client: c, scopes: slices.Clone(o.Scopes), base: o.Base}
	if len(t.scopes) == 0 {
		t.scopes = c.scopes
	}
	if t.base == nil {
		t.base = http.DefaultTransport
	}
	for _, text := range o.Origins {
		origin, err := parseOrigin(text)
		if err != nil {
			return nil, err
		}
		t.origins = append(t.origins, origin)
	}
	return t, nil
}

type transport struct {
	client  *Client
	origins []string
	scopes  []string
	base    http.RoundTripper
}

// RoundTrip implements [http.RoundTripper]; see [Client.Transport].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !t.mayHaveToken(req) {
		return t.base.RoundTrip(req)
	}
	wanted := tokencache.Request{Scopes: t.scopes}
	tok, err := t.client.Acquire(req.Context(), wanted)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	resp, err := t.send(req, req.Body, tok)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	claims, refused := refusal(resp.Header)
	if !refused {
		return resp, nil
	}
	body, ok := replay(req)
	if !ok {
		return resp, nil
	}
	_ = resp.Body.Close() // unread: who refuses a token may also be slow to say so
	wanted.Refused, wanted.Claims = tok.AccessToken, claims
	tok, err = t.client.Acquire(req.Context(), wanted)
	if err != nil {
		if body != nil {
			_ = body.Close()
		}
		return nil, err
	}
	return t.send(req, body, tok)
}

// send sends a copy of the request. The response names the original, so that
// whoever logs resp.Request does not log the token.
func (t *transport) send(req *http.Request, body io.ReadCloser, tok tokencache.Token) (*http.Response, error) {
	r := req.Clone(req.Context())
	r.Body = body
	r.Header.Set("Authorization", tok.Type+" "+string(tok.AccessToken))
	resp, err := t.base.RoundTrip(r)
	if err == nil {
		resp.Request = req
	}
	return resp, err
}

// mayHaveToken looks at the redirects behind the request too: a page elsewhere
// must not make this client call the API in the user's name.
func (t *transport) mayHaveToken(req *http.Request) bool {
	if req.URL == nil || req.Header.Get("Authorization") != "" {
		return false
	}
	origin, ok := originOf(req.URL)
	if !ok || !slices.Contains(t.origins, origin) {
		return false
	}
	for r := req.Response; r != nil; r = r.Request.Response {
		if r.Request == nil || r.Request.URL == nil {
			return false
		}
		if from, ok := originOf(r.Request.URL); !ok || from != origin {
			return false
		}
	}
	return true
}

// replay returns the body for sending the request again.
func replay(req *http.Request) (io.ReadCloser, bool) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return req.Body, true
	case req.GetBody == nil:
		return nil, false
	}
	body, err := req.GetBody()
	return body, err == nil
}

// closeBody keeps the promise of a RoundTripper for a request that is not sent.
func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// CloseIdleConnections passes on that of [http.Client].
func (t *transport) CloseIdleConnections() {
	if b, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		b.CloseIdleConnections()
	}
}

var _ http.RoundTripper = (*transport)(nil)
