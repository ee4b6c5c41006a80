package msal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// recorder is the HTTP client of one MSAL client. It keeps what the server has answered:
// MSAL gives no refresh token away, and nothing at all after an error, be it one that it
// makes of an answer with a rotated refresh token.
type recorder struct {
	client   *http.Client
	metadata *metadata

	mu       sync.Mutex
	asked    []string  // the URLs of the metadata that MSAL was given
	token    *recorded // of the token endpoint, the last one
	refused  *recorded // of another one, unless it was a success
	err      error     // of the last request that had no answer
	answered func()    // called when the token endpoint has answered, unless it is nil
}

// recorded is an answer that has been read.
type recorded struct {
	status int
	header http.Header
	body   []byte
}

// Do sends a request, or answers it from the metadata that is kept.
func (r *recorder) Do(req *http.Request) (*http.Response, error) {
	var a *recorded
	var err error
	if isMetadata(req) {
		a, err = r.metadata.get(r.client, req)
	} else {
		a, err = send(r.client, req)
	}
	r.record(req, a, err)
	if err != nil {
		return nil, err
	}
	return a.response(req), nil
}

// CloseIdleConnections does nothing: the connections are everybody's.
func (*recorder) CloseIdleConnections() {}

func (r *recorder) record(req *http.Request, a *recorded, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	switch {
	case err != nil:
	case isMetadata(req) && a.status == http.StatusOK:
		r.asked = append(r.asked, req.URL.String())
	case isTokenEndpoint(req):
		r.token = a
		if r.answered != nil {
			r.answered()
		}
	case a.status/100 != 2:
		r.refused = a
	case isUserRealm(req) && a.ofNobody():
		r.refused = refusal("invalid_grant")
	}
}

// isTokenEndpoint tells a request for tokens, or for device codes, from what MSAL asks
// before it.
func isTokenEndpoint(req *http.Request) bool {
	form := strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
	return req.Method == http.MethodPost && form
}

// isUserRealm tells whether MSAL asks where a user's password is checked.
func isUserRealm(req *http.Request) bool {
	return req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/common/UserRealm/")
}

// ofNobody tells whether the answer is that nobody has such a name.
func (a *recorded) ofNobody() bool {
	var realm struct {
		Type string `json:"account_type"`
	}
	return json.Unmarshal(a.body, &realm) == nil && realm.Type == "Unknown"
}

// send reads the whole answer. Its errors are those of an HTTP client.
func send(hc *http.Client, req *http.Request) (*recorded, error) {
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, &url.Error{Op: "read", Err: err}
	}
	return &recorded{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

func (a *recorded) response(req *http.Request) *http.Response {
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(), Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: req,
	}
}

// outcome is the server's answer, if there is one: whatever MSAL made of it. MSAL's error
// may repeat all of it, tokens included, and goes no further.
func (r *recorder) outcome(ctx context.Context, result *confidential.AuthResult, err error) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.token != nil:
		return r.token.response(nil), nil
	case err == nil:
		return issued(result), nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case r.err != nil:
		return nil, r.err
	case r.refused != nil:
		return r.refused.response(nil), nil
	case err == errNoScopes, err == errGrant: //nolint:errorlint // not one of the application's own, which may be like it
		return nil, err
	}
	r.metadata.forget(r.asked) // MSAL may have found fault with it
	return nil, &unaskedError{err}
}

// issued is the token response for a token that MSAL got from a token provider.
func issued(result *confidential.AuthResult) *http.Response {
	seconds := func(t time.Time) int64 { return int64(max(time.Until(t), 0) / time.Second) }
	body, _ := json.Marshal(map[string]any{ // cannot fail
		"access_token": result.AccessToken, "token_type": "Bearer", "scope": strings.Join(result.GrantedScopes, " "),
		"expires_in": seconds(result.ExpiresOn), "refresh_in": seconds(result.Metadata.RefreshOn),
	})
	return (&recorded{status: http.StatusOK, header: http.Header{}, body: body}).response(nil)
}

// unaskedError says that MSAL gave up before there was an answer. It does not repeat the
// text of its cause, which may come from code that handles keys, or name the user.
type unaskedError struct{ err error }

func (*unaskedError) Error() string {
	return "msal: MSAL made no token request: the authority, an option or the credential is not valid"
}

// Unwrap returns the cause, unless it could be taken for an answer about the user, or for
// the end of the caller's context.
func (e *unaskedError) Unwrap() error {
	var interaction *tokencache.InteractionRequiredError
	var refused *xoauth2.ProtocolError
	if errors.As(e.err, &interaction) || errors.As(e.err, &refused) {
		return nil
	}
	for _, target := range []error{tokencache.ErrNoTokens, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(e.err, target) {
			return nil
		}
	}
	return e.err
}
