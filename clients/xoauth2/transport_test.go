package xoauth2_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// apiClient calls the API at the origin with the user's tokens.
func (f *fixture) apiClient(t *testing.T, origins ...string) *http.Client {
	t.Helper()
	hc := httpClient(t)
	rt, err := f.client.Transport(&xoauth2.TransportOptions{Origins: origins, Scopes: []string{apiScope}, Base: hc.Transport})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	hc.Transport = rt
	return hc
}

// call sends a request and returns status and body.
func call(t *testing.T, hc *http.Client, req *http.Request) (int, string, error) {
	t.Helper()
	resp, err := hc.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Request.Header.Get("Authorization") != "" && req.Header.Get("Authorization") == "" {
		t.Error("resp.Request shows the token")
	}
	return resp.StatusCode, string(b), nil
}

func request(t *testing.T, ctx context.Context, method, target string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// recorder is an API that remembers the Authorization headers it got.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

// newRecorder answers with f, if it is not nil, after recording.
func newRecorder(t *testing.T, f http.HandlerFunc) *recorder {
	t.Helper()
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, req.Header.Get("Authorization"))
		r.mu.Unlock()
		if f != nil {
			f(w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) headers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.seen...)
}

func TestTransport(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	hc := f.apiClient(t, f.idp.URL())
	for _, user := range []string{"anna", "berta"} {
		ctx := f.signIn(t, user)
		req := request(t, ctx, http.MethodGet, f.idp.URL()+"/api/me", nil)
		status, body, err := call(t, hc, req)
		if err != nil || status != http.StatusOK || !strings.Contains(body, user+"@") {
			t.Errorf("%s: got %d %s, %v", user, status, body, err)
		}
		if len(req.Header) != 0 {
			t.Error("the caller's request was changed")
		}
	}
	_, _, err := call(t, hc, request(t, t.Context(), http.MethodGet, f.idp.URL()+"/api/me", nil))
	if !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("nobody's request: got %v, want ErrNoTokens", err)
	}
}

func TestTransportOrigins(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	elsewhere := newRecorder(t, nil)
	away := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/stolen", http.StatusTemporaryRedirect)
	})
	within := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/end" {
			http.Redirect(w, r, "/end", http.StatusFound)
		}
	})
	back := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, within.URL+"/end", http.StatusFound)
	})
	hc := f.apiClient(t, away.URL, within.URL)
	get := func(target string, header ...string) {
		t.Helper()
		req := request(t, ctx, http.MethodGet, target, nil)
		if len(header) > 0 {
			req.Header.Set("Authorization", header[0])
		}
		if status, _, err := call(t, hc, req); err != nil || status != http.StatusOK {
			t.Errorf("%s: %d, %v", target, status, err)
		}
	}
	get(away.URL)
	get(within.URL)
	get(back.URL)
	get(within.URL+"/end", "Basic own")
	get(elsewhere.URL)

	for name, tt := range map[string]struct {
		at   *recorder
		want []string // prefixes
	}{
		"first":                        {away, []string{"Bearer "}},
		"redirected to another host":   {elsewhere, []string{"", ""}},
		"redirected within, from away": {within, []string{"Bearer ", "Bearer ", "", "Basic own"}},
		"not in the list":              {back, []string{""}},
	} {
		got := tt.at.headers()
		if len(got) != len(tt.want) {
			t.Errorf("%s: %d requests, want %d", name, len(got), len(tt.want))
			continue
		}
		for i, header := range got {
			if !strings.HasPrefix(header, tt.want[i]) || (header == "") != (tt.want[i] == "") {
				t.Errorf("%s: request %d has %.12q, want %q", name, i, header, tt.want[i])
			}
		}
	}
}

func TestTransportReplaysRefusedToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	tests := map[string]struct {
		body   func() io.Reader
		faults int
		status int
		calls  int64
		refs   int64
	}{
		"no body":       {func() io.Reader { return nil }, 1, 200, 2, 1},
		"empty body":    {func() io.Reader { return http.NoBody }, 1, 200, 2, 1},
		"with GetBody":  {func() io.Reader { return strings.NewReader("payload") }, 1, 200, 2, 1},
		"without":       {func() io.Reader { return io.MultiReader(strings.NewReader("payload")) }, 1, 401, 1, 0},
		"refused twice": {func() io.Reader { return strings.NewReader("payload") }, 2, 401, 2, 1},
	}
	for name, tt := range tests { // one after the other: they share counters and the fault
		t.Run(name, func(t *testing.T) {
			ctx := f.signIn(t, "user "+name)
			hc := f.apiClient(t, f.idp.URL())
			before := f.idp.Stats()
			f.fault(t, idp.Fault{Endpoint: "api", Status: 401, Times: tt.faults})
			body := tt.body()
			status, text, err := call(t, hc, request(t, ctx, http.MethodPost, f.idp.URL()+"/api/echo", body))
			if err != nil || status != tt.status {
				t.Errorf("got %d, %v; want %d", status, err, tt.status)
			}
			if _, ok := body.(*strings.Reader); ok && status == http.StatusOK && text != "payload" {
				t.Errorf("the API got %q, want the body", text)
			}
			after := f.idp.Stats()
			if n := after.APIRequests - before.APIRequests; n != tt.calls {
				t.Errorf("%d calls, want %d", n, tt.calls)
			}
			if n := after.TokenRequests.RefreshToken - before.TokenRequests.RefreshToken; n != tt.refs {
				t.Errorf("%d refreshes, want %d", n, tt.refs)
			}
			f.idp.ClearFault("api")
		})
	}
}

func TestTransportPassesOtherAnswers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	for name, answer := range map[string]struct {
		status int
		header string
	}{
		"403":           {403, `Bearer error="insufficient_scope"`},
		"no challenge":  {401, ""},
		"no error":      {401, `Bearer realm="x"`},
		"basic":         {401, `Basic realm="invalid_token"`},
		"not a refusal": {200, `Bearer error="invalid_token"`},
	} {
		api := newRecorder(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", answer.header)
			w.WriteHeader(answer.status)
		})
		status, _, err := call(t, f.apiClient(t, api.URL), request(t, ctx, http.MethodGet, api.URL, nil))
		if err != nil || status != answer.status || len(api.headers()) != 1 {
			t.Errorf("%s: got %d, %v after %d calls", name, status, err, len(api.headers()))
		}
	}
	if n := f.idp.Stats().TokenRequests.RefreshToken; n != 0 {
		t.Errorf("%d refreshes, want none", n)
	}
}

func TestTransportClaimsChallenge(t *testing.T) {
	t.Parallel()
	const claims = `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`
	f := newFixture(t, config{entra: true})
	ctx := f.signIn(t, "anna")
	api := newRecorder(t, nil)
	var first string
	api.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first == "" {
			first = r.Header.Get("Authorization")
		}
		if r.Header.Get("Authorization") == first {
			w.Header().Add("WWW-Authenticate", `Basic realm="x"`)
			w.Header().Add("WWW-Authenticate", `Bearer realm="", error="insufficient_claims", claims="`+
				"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxIn19fQ=="+`"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	hc := f.apiClient(t, api.URL)
	for range 2 { // the second time the token is there already
		status, _, err := call(t, hc, request(t, ctx, http.MethodGet, api.URL, nil))
		if err != nil || status != http.StatusOK {
			t.Fatalf("got %d, %v", status, err)
		}
	}
	if n := f.idp.Stats().TokenRequests.RefreshToken; n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	// The authorization server wants the user: the error says with which claims.
	if err := f.idp.RequireInteraction("anna", claims); err != nil {
		t.Fatal(err)
	}
	f.expire(t, ctx)
	first = ""
	_, _, err := call(t, hc, request(t, ctx, http.MethodGet, api.URL, nil))
	var e *tokencache.InteractionRequiredError
	if !errors.As(err, &e) || e.Claims != claims {
		t.Errorf("got %v, want an InteractionRequiredError with claims", err)
	}
}

// TestTransportRefreshFails: the error is more use than the 401.
func TestTransportRefreshFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	if _, err := f.idp.RevokeUser("anna"); err != nil {
		t.Fatal(err)
	}
	body := &closing{Reader: strings.NewReader("x")}
	req := request(t, ctx, http.MethodPost, f.idp.URL()+"/api/echo", body)
	req.GetBody = func() (io.ReadCloser, error) { return &closing{Reader: strings.NewReader("x")}, nil }
	_, _, err := call(t, f.apiClient(t, f.idp.URL()), req)
	if !errors.Is(err, tokencache.ErrInvalidGrant) {
		t.Errorf("got %v, want ErrInvalidGrant", err)
	}
	clean(t, err, "Bearer")
	// Nor is the body of a request that is never sent left open.
	body = &closing{Reader: strings.NewReader("x")}
	_, _, err = call(t, f.apiClient(t, f.idp.URL()), request(t, t.Context(), http.MethodPost, f.idp.URL()+"/api/echo", body))
	if !errors.Is(err, tokencache.ErrNoTokens) || !body.closed.Load() {
		t.Errorf("got %v, closed %v", err, body.closed.Load())
	}
}

type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error { c.closed.Store(true); return nil }

func TestTransportConcurrency(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	hc := f.apiClient(t, f.idp.URL())
	// The server has revoked this access token, and nothing else.
	f.fault(t, idp.Fault{Endpoint: "api", Status: 401, Times: 16})
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 16 {
		wg.Go(func() {
			<-start
			req := request(t, ctx, http.MethodPost, f.idp.URL()+"/api/echo", bytes.NewReader([]byte("payload")))
			if _, _, err := call(t, hc, req); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if s := f.idp.Stats(); s.RefreshReused != 0 || s.TokenRequests.RefreshToken > 16 {
		t.Errorf("stats %+v", s)
	}
}

// TestTransportOneRefusedToken: whoever was refused the same token shares one
// refresh.
func TestTransportOneRefusedToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	first, err := f.client.Token(ctx, apiScope)
	if err != nil {
		t.Fatal(err)
	}
	var arrived sync.WaitGroup
	arrived.Add(16)
	api := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+string(first.AccessToken) {
			arrived.Done()
			arrived.Wait()
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	hc := f.apiClient(t, api.URL)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			status, _, err := call(t, hc, request(t, ctx, http.MethodGet, api.URL, nil))
			if err != nil || status != http.StatusOK {
				t.Errorf("got %d, %v", status, err)
			}
		})
	}
	wg.Wait()
	if n := f.idp.Stats().TokenRequests.RefreshToken; n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
}

func TestTransportOptionsErrors(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	for name, o := range map[string]*xoauth2.TransportOptions{
		"nil": nil, "none": {}, "path": {Origins: []string{"https://a.example/x"}}, "plain http": {Origins: []string{"http://a.example"}},
	} {
		if _, err := f.client.Transport(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestTransportStalledRefusal: an API that refuses a token and then says nothing
// more is asked again all the same.
func TestTransportStalledRefusal(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "ada")
	var calls atomic.Int64
	api := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) > 1 {
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // until the client has closed the answer
	})
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	status, _, err := call(t, f.apiClient(t, api.URL), request(t, ctx, http.MethodGet, api.URL, nil))
	if err != nil || status != http.StatusOK || calls.Load() != 2 {
		t.Errorf("got %d, %v after %d calls", status, err, calls.Load())
	}
}
