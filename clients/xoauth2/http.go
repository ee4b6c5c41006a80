package xoauth2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	maxAnswer      = 1 << 20 // bytes of any answer
	defaultTimeout = 10 * time.Second
	maxRetryAfter  = time.Hour
)

// newHTTPClient makes the client of [Options.HTTPClient].
func newHTTPClient(o *http.Client) *http.Client {
	hc := &http.Client{}
	if o != nil {
		*hc = *o
	}
	if hc.Timeout == 0 {
		hc.Timeout = defaultTimeout
	}
	if hc.Transport == nil {
		hc.Transport = http.DefaultTransport
	}
	hc.Transport = bounded{hc.Transport}
	hc.Jar = nil
	// A redirected POST would take the client's secret and a refresh token to
	// an address that nobody configured, and redirected metadata or keys would
	// be trusted like the issuer's own.
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return hc
}

// bounded limits the answers that go-oidc reads too.
type bounded struct{ base http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.base.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) ok() bool { return a.status/100 == 2 }

// unavailable is the ServerError of an answer that says so by its status.
func (a *answer) unavailable(what string) error {
	return &tokencache.ServerError{
		RetryAfter: retryAfter(a.header.Get("Retry-After"), time.Now()),
		Err:        fmt.Errorf("%s: status %d", what, a.status),
	}
}

// get asks an endpoint for JSON and decodes it into v.
func get(ctx context.Context, hc *http.Client, endpoint string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return errors.New("xoauth2: an endpoint of the server is not a URL")
	}
	a, err := send(hc, req)
	switch {
	case err != nil:
		return err
	case !a.ok():
		return a.unavailable("discovery")
	case json.Unmarshal(a.body, v) != nil:
		return malformed("the metadata is not JSON")
	}
	return nil
}

// post sends a form as this client; see authenticate.
func (c *Client) post(ctx context.Context, endpoint string, inBody bool, form url.Values) (*answer, error) {
	basic, err := c.authenticate(ctx, endpoint, inBody, form)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("xoauth2: an endpoint of the server is not a URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if basic {
		req.SetBasicAuth(url.QueryEscape(c.config.ClientID), url.QueryEscape(c.secret()))
	}
	return send(c.http, req)
}

// send returns the answer whatever its status. The error is the context's or a
// ServerError.
func send(hc *http.Client, req *http.Request) (*answer, error) {
	resp, err := hc.Do(req)
	if err != nil {
		return nil, unheard(req.Context(), err)
	}
	return read(req.Context(), resp)
}

// unheard is the error of a request without an answer. It leaves out the URL
// that net/http adds, and makes the client's own timeout unlike the end of the
// caller's context.
func unheard(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("xoauth2: waiting for the authorization server: %w", ctx.Err())
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return malformed("the answer is larger than 1 MiB")
	}
	if t := (interface{ Timeout() bool })(nil); errors.As(err, &t) && t.Timeout() {
		return malformed("no answer in time")
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return &tokencache.ServerError{Err: err}
}

func malformed(what string) error {
	return &tokencache.ServerError{Err: errors.New(what)}
}

// retryAfter reads the header of that name (RFC 9110 §10.2.3): seconds or a
// date. What is not understood counts as absent.
func retryAfter(value string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		d = time.Duration(n) * time.Second // #nosec G115 -- 31 bits
	} else if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
