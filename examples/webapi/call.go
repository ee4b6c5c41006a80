package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// caller calls one API in the name of whoever the context's request is from. The
// web app and the orders API do it in the same way: whose token it is, the user's of
// a session or one on behalf of the bearer of another, is the middleware's to know.
type caller struct {
	name     string // of the API, for people
	base     string // its URL
	scope    string
	cache    *tokencache.Cache
	client   *xoauth2.Client
	http     *http.Client // sends the token along
	patience time.Duration
}

// maxAnswer bounds what is read of an API's answer.
const maxAnswer = 1 << 20

func newCaller(p *program, a *app, name, base, scope string, timeout time.Duration) (*caller, error) {
	transport, err := p.client.Transport(&xoauth2.TransportOptions{
		Origins: []string{base},
		Scopes:  []string{scope},
		Base:    a.outgoing,
	})
	if err != nil {
		return nil, err
	}
	return &caller{
		name: name, base: base, scope: scope, cache: p.cache, client: p.client, patience: a.patience,
		http: &http.Client{
			Transport: transport, Timeout: timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// do calls the API and decodes its answer. Most applications need send only; asking
// for the token before and after is for showing where it came from, and costs
// nothing, as the request's tokens have been loaded.
func (c *caller) do(ctx context.Context, method, path string, into any) (spent, error) {
	began := time.Now()
	token, err := c.token(ctx)
	if err != nil {
		return spent{}, err
	}
	s := spent{Source: token.Source.String(), TokenMS: milliseconds(time.Since(began))}
	called := time.Now()
	if err := c.send(ctx, method, path, into); err != nil {
		return spent{}, err
	}
	s.CallMS = milliseconds(time.Since(called))
	if used, ok := c.cached(ctx); ok && used.AccessToken != token.AccessToken {
		s.Source = tokencache.SourceServer.String() // the API refused the first one, and the transport got another
	}
	return s, nil
}

// token gives the identity server some time to answer.
func (c *caller) token(ctx context.Context) (tokencache.Token, error) {
	waiting, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	token, err := c.client.Token(waiting, c.scope)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = &tokencache.ServerError{Err: errors.New("the identity server takes too long")}
	}
	return token, err
}

// cached returns the token that is in the cache by now, asking no server.
func (c *caller) cached(ctx context.Context) (tokencache.Token, bool) {
	p, ok := c.cache.FromContext(ctx)
	if !ok {
		return tokencache.Token{}, false
	}
	token, err := p.Token(ctx, tokencache.Request{Scopes: []string{c.scope}}, nil)
	return token, err == nil
}

// send calls the API: the transport adds the token, and replaces it once if the
// API says that it is not good any more. If the API demands claims, the transport asks
// the server for a token with them; where the server cannot give one without the user,
// the error is a *tokencache.InteractionRequiredError, for the web app to step up with.
// Other errors are those of getting a token, the context's, or an *apiError.
func (c *caller) send(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	switch {
	case err == nil:
	case isTokenError(err):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return &apiError{api: c.name, err: withoutURL(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return refused(c.name, resp)
	}
	if into == nil {
		return nil
	}
	if json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into) != nil {
		return &apiError{api: c.name, err: errors.New("the answer is not JSON, or ended early")}
	}
	return nil
}

// isTokenError tells whether there was no token to call with, so that the API
// was not asked.
func isTokenError(err error) bool {
	var server *tokencache.ServerError
	var interaction *tokencache.InteractionRequiredError
	var protocol *xoauth2.ProtocolError
	return errors.Is(err, tokencache.ErrNoTokens) || errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrBusy) ||
		errors.As(err, &server) || errors.As(err, &interaction) || errors.As(err, &protocol)
}

// withoutURL drops the URL that net/http puts into its errors, since that may name
// the user.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// apiError is an API that did not answer, or that answered with no.
type apiError struct {
	api       string
	status    int    // 0 if there was no answer, or none that makes sense
	code      string // error of the JSON body, or else of the challenge
	challenge string // WWW-Authenticate
	retry     time.Duration
	err       error // with status 0
}

// Error leaves the challenge out: it may be long.
func (e *apiError) Error() string {
	if e.status == 0 {
		return fmt.Sprintf("%s does not answer: %v", e.api, e.err)
	}
	return fmt.Sprintf("%s answered with status %d: %s", e.api, e.status, e.code)
}

func (e *apiError) Unwrap() error { return e.err }

const maxChallenge = 4096

var (
	codeInBody      = regexp.MustCompile(`^[a-z_]{1,64}$`)
	codeInChallenge = regexp.MustCompile(`^Bearer (?:[a-z_]+="[^"\\]*", )*error="([a-z_]{1,64})"`)
)

// refused reads an answer that is an error. What it says is the API's word: it is
// shown as text, and held to a form before it is logged.
func refused(api string, resp *http.Response) *apiError {
	e := &apiError{api: api, status: resp.StatusCode}
	if text := resp.Header.Get("WWW-Authenticate"); len(text) <= maxChallenge {
		e.challenge = text
	}
	var body struct {
		Error string `json:"error"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&body) == nil && codeInBody.MatchString(body.Error) {
		e.code = body.Error
	} else if m := codeInChallenge.FindStringSubmatch(e.challenge); m != nil {
		e.code = m[1]
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 && seconds <= 3600 {
		e.retry = time.Duration(seconds) * time.Second
	}
	return e
}
