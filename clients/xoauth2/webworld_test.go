package xoauth2_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	writeScope = "api://coatcheck-example/Tasks.Write"
	signInPath = "/signin"
)

// fragile is a session store that a test can break.
type fragile struct {
	*memstore.MemStore
	broken atomic.Bool
	spare  atomic.Int64 // how many calls more succeed
	slow   atomic.Int64 // nanoseconds that each call takes
}

var errStore = errors.New("dial tcp marker-address: refused")

func (s *fragile) fails() bool {
	time.Sleep(time.Duration(s.slow.Load()))
	return s.broken.Load() && s.spare.Add(-1) < 0
}

func (s *fragile) Find(token string) ([]byte, bool, error) {
	if s.fails() {
		return nil, false, errStore
	}
	return s.MemStore.Find(token)
}

func (s *fragile) Commit(token string, b []byte, expiry time.Time) error {
	if s.fails() {
		return errStore
	}
	return s.MemStore.Commit(token, b, expiry)
}

func (s *fragile) Delete(token string) error {
	if s.fails() {
		return errStore
	}
	return s.MemStore.Delete(token)
}

// site is a web app that uses [xoauth2.Web].
type site struct {
	*fixture
	web      *xoauth2.Web
	server   *httptest.Server
	sessions *scs.SessionManager
	store    *fragile

	mu      sync.Mutex
	failed  []error                     // what Fail was told
	demand  func(*http.Request) error   // what /demand answers
	stepped []bool                      // what StepUp said within Fail
	onFail  func(w http.ResponseWriter) // what else Fail does
}

// newSite returns a site whose users have to consent. The options may be nil.
func newSite(t *testing.T, o *xoauth2.WebOptions, change ...func(*site, *xoauth2.WebOptions)) *site {
	t.Helper()
	s := &site{store: &fragile{MemStore: memstore.NewWithCleanupInterval(0)}}
	s.sessions = &scs.SessionManager{
		Store: s.store, Lifetime: time.Hour, Codec: scs.GobCodec{}, HashTokenInStore: true,
		Cookie: scs.SessionCookie{Name: "session", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode},
		ErrorFunc: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "sessions", http.StatusServiceUnavailable)
		},
	}
	s.server = httptest.NewUnstartedServer(nil)
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0) // scs answers a second time when it fails
	s.server.Start()
	t.Cleanup(s.server.Close)
	s.fixture = newFixture(t, config{redirect: s.server.URL + "/callback", idp: idp.Options{AutoLogin: true, Consent: true}})
	if o == nil {
		o = &xoauth2.WebOptions{}
	}
	o.Fail = s.fail
	for _, c := range change {
		c(s, o)
	}
	var err error
	if s.web, err = s.client.Web(s.sessions, o); err != nil {
		t.Fatal(err)
	}
	s.server.Config.Handler = s.routes()
	return s
}

func (s *site) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+signInPath, s.web.SignIn)
	mux.HandleFunc("GET /callback", s.web.Callback)
	token := func(w http.ResponseWriter, r *http.Request) {
		tok, err := s.client.Token(r.Context(), r.URL.Query()["scope"]...)
		s.answer(w, r, tok, err)
	}
	mux.HandleFunc("GET /token", token)
	mux.HandleFunc("POST /token", token)
	mux.HandleFunc("GET /demand", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		demand := s.demand
		s.mu.Unlock()
		s.answer(w, r, tokencache.Token{}, demand(r))
	})
	mux.HandleFunc("GET /put", func(_ http.ResponseWriter, r *http.Request) {
		s.sessions.Put(r.Context(), "basket", r.URL.Query().Get("value"))
	})
	mux.HandleFunc("GET /forget", func(_ http.ResponseWriter, r *http.Request) {
		s.sessions.Remove(r.Context(), "xoauth2.ticket")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if p, ok := s.cache.FromContext(r.Context()); ok {
			if tokens, err := p.Tokens(r.Context()); err == nil && len(tokens.Accounts()) > 0 {
				name = tokens.Accounts()[0].Name
			}
		}
		fmt.Fprintf(w, "user=%s basket=%s", name, s.sessions.GetString(r.Context(), "basket"))
	})
	return s.sessions.LoadAndSave(middleware.LoadAndSave(s.cache, middleware.SessionAccount(s.web.Ticket))(mux))
}

func (s *site) answer(w http.ResponseWriter, r *http.Request, tok tokencache.Token, err error) {
	switch {
	case err == nil:
		fmt.Fprintf(w, "scopes=%v", tok.Scopes)
	case !s.web.StepUp(w, r, err):
		http.Error(w, "the app's own words", http.StatusForbidden)
	}
}

// fail is the site's WebOptions.Fail. It does what an application might that has one
// way to answer all errors.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	stepped := s.web.StepUp(w, r, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed, s.stepped = append(s.failed, err), append(s.stepped, stepped)
	if s.onFail != nil {
		s.onFail(w)
	}
	if !stepped {
		http.Error(w, "failed", http.StatusTeapot)
	}
}

// lastError is what Fail was told last.
func (s *site) lastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failed) == 0 {
		return nil
	}
	return s.failed[len(s.failed)-1]
}

func (s *site) demands(f func(*http.Request) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.demand = f
}

// person has a browser.
type person struct {
	t    *testing.T
	http *http.Client
	base string
	name string
	says string // to the page that asks for consent: accept or deny

	visited []string // the URLs of the last visit
}

// page is where a visit has ended.
type page struct {
	status int
	url    string // path and query
	body   string
	header http.Header
}

func (s *site) person(t *testing.T, name string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	hc := httpClient(t)
	hc.Jar = jar
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &person{t: t, http: hc, base: s.server.URL, name: name, says: "accept"}
}

// signedIn returns a person who has signed in.
func (s *site) signedIn(t *testing.T, name string) *person {
	t.Helper()
	p := s.person(t, name)
	if got := p.visit(http.MethodGet, signInPath+"?login_hint="+name, nil); got.status != http.StatusOK || !strings.Contains(got.body, "user="+name) {
		t.Fatalf("signing in: status %d at %s: %s", got.status, got.url, got.body)
	}
	return p
}

// one sends one request as a browser's navigation, unless the header says otherwise.
func (p *person) one(method, target string, header http.Header) page {
	p.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = p.base + target
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, target, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Accept", "text/html,*/*;q=0.8")
	for key, values := range header {
		req.Header[key] = values
	}
	return p.do(req)
}

func (p *person) do(req *http.Request) page {
	p.t.Helper()
	resp, err := p.http.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return page{resp.StatusCode, req.URL.RequestURI(), string(body), resp.Header}
}

// visit goes on as a browser does, up to a page of the site, and answers the pages of
// the authorization server.
func (p *person) visit(method, target string, header http.Header) page {
	p.t.Helper()
	p.visited = nil
	for range 20 { // as many as browsers follow
		got := p.one(method, target, header)
		p.visited = append(p.visited, target)
		if strings.Contains(got.body, `name="consent"`) {
			got = p.consent(target)
		}
		location := got.header.Get("Location")
		if location == "" {
			return got
		}
		method, target, header = http.MethodGet, location, nil
	}
	p.t.Fatal("it goes round in circles")
	return page{}
}

// consent answers the page at the URL.
func (p *person) consent(target string) page {
	p.t.Helper()
	form := url.Values{"username": {p.name}, "consent": {p.says}}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.do(req)
}

// cookies are those for the site.
func (p *person) cookies() []*http.Cookie {
	u, err := url.Parse(p.base)
	if err != nil {
		p.t.Fatal(err)
	}
	return slices.DeleteFunc(p.http.Jar.Cookies(u), func(c *http.Cookie) bool { return c.Name != "session" })
}

func (p *person) sets(cookies []*http.Cookie) *person {
	u, err := url.Parse(p.base)
	if err != nil {
		p.t.Fatal(err)
	}
	p.http.Jar.SetCookies(u, cookies)
	return p
}

// is tells what the start page says.
func (p *person) is(want string) {
	p.t.Helper()
	if got := p.one(http.MethodGet, "/", nil); got.body != want {
		p.t.Errorf("the page says %q, want %q", got.body, want)
	}
}

// at tells where a visit has ended.
func (got page) at(t *testing.T, status int, target string) {
	t.Helper()
	if got.status != status || got.url != target {
		path, _, _ := strings.Cut(got.url, "?") // in the query there may be a code
		t.Errorf("status %d at %s, want %d at %s: %.200s", got.status, path, status, target, got.body)
	}
}

func interaction(claims string, scopes ...string) error {
	return fmt.Errorf("an API: %w", &tokencache.InteractionRequiredError{Code: "interaction_required", Claims: claims, Scopes: scopes})
}

// sessionsOf calls f with the context of each stored session.
func (s *site) sessionsOf(t *testing.T, f func(context.Context)) {
	t.Helper()
	if err := s.sessions.Iterate(t.Context(), func(ctx context.Context) error { f(ctx); return nil }); err != nil {
		t.Fatal(err)
	}
}
