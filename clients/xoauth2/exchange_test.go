package xoauth2_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// exchanger makes token requests by itself, as the client of the fixture.
type exchanger struct {
	endpoint string
	asked    atomic.Int64
	requests []tokencache.Request
	instead  func(*xoauth2.TokenRequest) (*http.Response, error)
}

func (e *exchanger) exchange(ctx context.Context, r *xoauth2.TokenRequest) (*http.Response, error) {
	e.asked.Add(1)
	e.requests = append(e.requests, r.Request)
	if e.instead != nil {
		return e.instead(r)
	}
	form := url.Values{"client_id": {idp.DefaultClientID}, "client_secret": {idp.DefaultClientSecret}}
	for name, values := range r.Form {
		form[name] = values
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r.HTTPClient.Do(req)
}

func newExchanging(t *testing.T) (*fixture, *exchanger) {
	t.Helper()
	f := newFixture(t, config{})
	e := &exchanger{endpoint: f.idp.URL() + "/token"}
	f.client = newClient(t, f.cache, &xoauth2.Options{
		RedirectURL: callbackURL, Scopes: []string{apiScope}, HTTPClient: httpClient(t), Exchange: e.exchange,
	})
	return f, e
}

// Whoever makes the token requests, sign-in, refresh and application tokens are the
// same, and it is told what the token is for.
func TestExchange(t *testing.T) {
	t.Parallel()
	f, e := newExchanging(t)
	ctx := f.signIn(t, "anna")
	f.expire(t, ctx)
	if tok, err := f.client.Token(ctx, apiScope); err != nil || tok.Source != tokencache.SourceServer {
		t.Fatalf("refreshed: %v, %v", tok.Source, err)
	}
	if _, err := f.client.AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://coatcheck-example/.default"}}); err != nil {
		t.Fatal(err)
	}
	if n := e.asked.Load(); n != 3 || fmt.Sprint(e.requests[1].Scopes) != "["+apiScope+"]" {
		t.Errorf("asked %d times, the second for %v", n, e.requests[1].Scopes)
	}
	if st := f.idp.Stats().TokenRequests; st.AuthorizationCode != 1 || st.RefreshToken != 1 || st.ClientCredentials != 1 {
		t.Errorf("the server was asked %+v", st)
	}
}

// An answer that does not come, or is too large, is the server's failure; what the one
// who asks says for itself is repeated.
func TestExchangeErrors(t *testing.T) {
	t.Parallel()
	own := errors.New("not configured")
	for name, c := range map[string]struct {
		instead func(*xoauth2.TokenRequest) (*http.Response, error)
		server  bool
	}{
		"own":  {func(*xoauth2.TokenRequest) (*http.Response, error) { return nil, own }, false},
		"down": {func(r *xoauth2.TokenRequest) (*http.Response, error) { return r.HTTPClient.Get("http://127.0.0.1:1") }, true},
		"oversized": {func(*xoauth2.TokenRequest) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("{}")), 1)}, nil
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, e := newExchanging(t)
			e.instead = c.instead
			_, err := f.client.AppToken(t.Context(), tokencache.Request{Resource: "api://y"})
			var down *tokencache.ServerError
			if err == nil || errors.As(err, &down) != c.server || !c.server && !errors.Is(err, own) {
				t.Errorf("got %v", err)
			}
		})
	}
}
