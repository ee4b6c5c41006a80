package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, sessionCleaner()) }

// sessionCleaner is the goroutine of an scs session manager. Its StopCleanup
// races with its start, so the application leaves it running until the end.
func sessionCleaner() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/alexedwards/scs/v2/memstore.(*MemStore).startCleanup")
}

// site is the running example.
type site struct {
	*app
	logs   *buffer
	stored map[*program]*records
}

// open starts the example on free ports and stops it after the test.
func open(t *testing.T, args ...string) *site {
	t.Helper()
	free := []string{"-addr=127.0.0.1:0", "-orders-addr=127.0.0.1:0", "-prices-addr=127.0.0.1:0", "-idp-addr=127.0.0.1:0"}
	cfg, err := parseConfig(append(free, args...), noEnv, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var watched []*records
	cfg.watch = func(p tokencache.Provider) tokencache.Provider {
		watched = append(watched, &records{Provider: p})
		return watched[len(watched)-1]
	}
	cfg.patience = 3 * time.Second
	logs := &buffer{}
	a, err := start(t.Context(), &cfg, slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := a.close(ctx); err != nil {
			t.Error("close:", err)
		}
	})
	s := &site{app: a, logs: logs, stored: map[*program]*records{}}
	for i, p := range a.programs { // opened in this order
		s.stored[p] = watched[i]
	}
	return s
}

func noEnv(string) string { return "" }

// records remembers what was saved.
type records struct {
	tokencache.Provider
	names sync.Map // of tokencache.Name
}

func (r *records) Save(ctx context.Context, name tokencache.Name, record tokencache.Record, c tokencache.Condition) error {
	r.names.Store(name, true)
	return r.Provider.Save(ctx, name, record, c)
}

// left counts what is still stored, tombstones apart, and how much there ever was.
func (r *records) left(t *testing.T) (now, ever int) {
	t.Helper()
	r.names.Range(func(name, _ any) bool {
		if n := name.(tokencache.Name); n.Owner == n.Partition {
			return true // what is noted of a session at the identity server, which is no token
		}
		ever++
		if record, err := r.Load(t.Context(), name.(tokencache.Name)); err == nil && !record.Removed() {
			now++
		}
		return true
	})
	return now, ever
}

// asked is how often the identity server was asked on behalf of somebody.
func (s *site) asked() int { return int(s.issuer.server.Stats().TokenRequests.OnBehalfOf) }

// fault makes an endpoint of the identity server misbehave.
func (s *site) fault(t *testing.T, f idp.Fault) {
	t.Helper()
	if f.Times == 0 {
		f.Times = 1000
	}
	if err := s.issuer.server.Fault(f); err != nil {
		t.Fatal(err)
	}
}

// visitor is one browser without a screen: a client with cookies.
type visitor struct {
	*http.Client
	base string
}

func (s *site) visitor(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &visitor{
		Client: &http.Client{Transport: transport, Jar: jar, Timeout: 30 * time.Second},
		base:   s.web.server.url,
	}
}

// signedIn returns a browser in which the user has signed in, and allowed what
// was asked for.
func (s *site) signedIn(t *testing.T, user string) *visitor {
	t.Helper()
	v := s.visitor(t)
	v.signIn(t, "/signin?login_hint="+url.QueryEscape(user), user)
	return v
}

// signIn follows a link of the web app's to the identity server, and returns where
// that leads back to.
func (v *visitor) signIn(t *testing.T, link, user string) reply {
	t.Helper()
	target := v.stays().get(t, link).header.Get("Location")
	resp, err := v.PostForm(target, url.Values{"username": {user}, "consent": {"accept"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got := read(t, resp)
	if got.status != http.StatusOK || !strings.Contains(got.body, "Hello, "+user) {
		t.Fatalf("signing in %s: status %d: %.300s", user, got.status, got.body)
	}
	return got
}

// token is the web app's token of the one user who is signed in, for the scope.
func (s *site) token(t *testing.T, scope string) string {
	t.Helper()
	var found tokencache.Ticket
	err := s.web.sessions.Iterate(t.Context(), func(ctx context.Context) error {
		if ticket, err := tokencache.ParseTicket(s.web.handlers.Ticket(ctx)); err == nil {
			found = ticket
		}
		return nil
	})
	if err != nil || found.Account() == "" {
		t.Fatal("nobody is signed in:", err)
	}
	ctx := tokencache.NewContext(t.Context(), s.web.cache.Partition(found.Key()))
	token, err := s.web.client.Token(ctx, scope)
	if err != nil {
		t.Fatal(err)
	}
	return string(token.AccessToken)
}

// stays returns the same browser, but it follows no redirects.
func (v *visitor) stays() *visitor {
	c := *v.Client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &visitor{Client: &c, base: v.base}
}

// reply is a response that has been read.
type reply struct {
	status int
	header http.Header
	body   string
	path   string // that was asked for in the end
}

func (v *visitor) get(t *testing.T, path string) reply {
	t.Helper()
	return v.do(t, http.MethodGet, path, nil, nil)
}

func (v *visitor) post(t *testing.T, path string, form url.Values) reply {
	t.Helper()
	return v.do(t, http.MethodPost, path, form, nil)
}

func (v *visitor) do(t *testing.T, method, path string, form url.Values, header http.Header) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, v.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := v.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return read(t, resp)
}

func read(t *testing.T, resp *http.Response) reply {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body), resp.Request.URL.Path}
}

// chain calls /api/chain, which must answer 200.
func (v *visitor) chain(t *testing.T) chain {
	t.Helper()
	got := v.get(t, "/api/chain")
	if got.status != http.StatusOK {
		t.Fatalf("/api/chain: status %d: %s", got.status, got.body)
	}
	c := decode[chain](t, got.body)
	if len(c.Hops) != 2 || len(c.Orders) == 0 {
		t.Fatalf("got the chain %+v", c)
	}
	return c
}

// bearer calls an API as a program does that has these Authorization headers.
func (v *visitor) bearer(t *testing.T, p *program, method, path string, authorization ...string) reply {
	t.Helper()
	at := &visitor{Client: &http.Client{Transport: v.Transport, Timeout: v.Timeout}, base: p.server.url}
	header := http.Header{}
	if authorization != nil {
		header["Authorization"] = authorization
	}
	return at.do(t, method, path, nil, header)
}

func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%.80q is not JSON: %v", body, err)
	}
	return v
}

// want checks a status and, unless it is empty, the JSON error code.
func (r reply) want(t *testing.T, status int, code string) {
	t.Helper()
	if r.status != status {
		t.Errorf("got status %d, want %d: %.300s", r.status, status, r.body)
		return
	}
	if code == "" {
		return
	}
	if got := decode[map[string]any](t, r.body)["error"]; got != code {
		t.Errorf("got error %v, want %s", got, code)
	}
}

// says checks that a page has a text.
func (r reply) says(t *testing.T, status int, text string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.body, text) {
		t.Errorf("got status %d, want %d, and %q in %.2000s", r.status, status, text, r.body)
	}
}

// buffer collects what several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
