package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// counting counts the calls of the provider, and may fail its reads.
type counting struct {
	tokencache.Provider
	loads, saves atomic.Int64
	down         atomic.Bool
	reading      func() // unless nil, runs in each read
}

func (c *counting) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	c.loads.Add(1)
	if c.reading != nil {
		c.reading()
	}
	if c.down.Load() {
		return tokencache.Record{}, errors.New("connection refused")
	}
	return c.Provider.Load(ctx, n)
}

func (c *counting) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, on tokencache.Condition) error {
	c.saves.Add(1)
	return c.Provider.Save(ctx, n, r, on)
}

// Capabilities leaves out the watcher, whose beginning drops what L1 holds: a
// read more, at any moment.
func (c *counting) Capabilities() tokencache.Capabilities {
	caps := c.Provider.Capabilities()
	caps.Watcher = nil
	return caps
}

func newStore(t testing.TB) *counting {
	t.Helper()
	p, err := memory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return &counting{Provider: p}
}

func newCache(t testing.TB, p tokencache.Provider, issuer string) *tokencache.Cache {
	t.Helper()
	return newCacheWith(t, p, issuer, nil)
}

func newCacheWith(t testing.TB, p tokencache.Provider, issuer string, o *tokencache.Options) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.New(p, tokencache.Namespace{Issuer: issuer, ClientID: "client"}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// authority is an authorization server. Each of its refresh tokens is good for one
// use. What it issues at a sign-in serves no API, so that the first token of each
// kind is asked of it.
type authority struct {
	// answering, unless nil, runs before a refresh is answered; by then the refresh
	// token is spent.
	answering func(context.Context) error

	refreshes atomic.Int64
	mu        sync.Mutex
	serial    int
	live      map[tokencache.Secret]string // refresh token → account
}

func newAuthority() *authority { return &authority{live: map[tokencache.Secret]string{}} }

func (a *authority) issue(account string, scopes ...string) tokencache.Grant {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	refresh := tokencache.Secret(fmt.Sprintf("refresh token %d of %s", a.serial, account))
	a.live[refresh] = account
	return tokencache.Grant{
		AccessToken:  tokencache.Secret(fmt.Sprintf("%s: %s, %d", account, strings.Join(scopes, "+"), a.serial)),
		RefreshToken: refresh,
		Scopes:       scopes,
		Expires:      time.Now().Add(time.Hour),
		Account:      tokencache.Account{ID: account},
	}
}

func (a *authority) Refresh(ctx context.Context, spent tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	a.refreshes.Add(1)
	a.mu.Lock()
	account, ok := a.live[spent]
	delete(a.live, spent)
	a.mu.Unlock()
	if !ok {
		return tokencache.Grant{}, tokencache.ErrInvalidGrant
	}
	if a.answering != nil {
		if err := a.answering(ctx); err != nil {
			return tokencache.Grant{}, err
		}
	}
	return a.issue(account, req.Scopes...), nil
}

func (a *authority) Revoke(context.Context, tokencache.Secret) error { return nil }

func (a *authority) signIn(t testing.TB, c *tokencache.Cache, account string) tokencache.Ticket {
	t.Helper()
	ticket, err := c.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
		return a.issue(account, "openid"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// ask asks for a token in a handler, and returns its text.
func ask(r *http.Request, c *tokencache.Cache, server tokencache.Server, scopes ...string) (string, error) {
	p, ok := c.FromContext(r.Context())
	if !ok {
		return "", errors.New("the request has no partition")
	}
	tok, err := p.Token(r.Context(), tokencache.Request{Scopes: scopes}, server)
	return string(tok.AccessToken), err
}

// stored returns what another node, which has nothing in memory, finds in the
// provider, without asking the authorization server.
func stored(t testing.TB, p tokencache.Provider, c *tokencache.Cache, key tokencache.Key, scopes ...string) string {
	t.Helper()
	node := newCache(t, p, c.Namespace().Issuer)
	tok, err := node.Partition(key).Token(t.Context(), tokencache.Request{Scopes: scopes}, nil)
	if err != nil {
		t.Errorf("another node: %v", err)
	}
	return string(tok.AccessToken)
}

// newSessions is scs.New without its goroutine, which nothing ends.
func newSessions() *scs.SessionManager {
	return &scs.SessionManager{
		Store:     memstore.NewWithCleanupInterval(0),
		Codec:     scs.GobCodec{},
		Lifetime:  time.Hour,
		Cookie:    scs.SessionCookie{Name: "session", Path: "/"},
		ErrorFunc: func(_ http.ResponseWriter, _ *http.Request, err error) { panic(err) },
	}
}

// newSession makes a session that holds the values, and returns its cookie.
func newSession(t testing.TB, sessions *scs.SessionManager, values map[string]string) *http.Cookie {
	t.Helper()
	ctx, err := sessions.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range values {
		sessions.Put(ctx, name, value)
	}
	token, _, err := sessions.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Cookie{Name: sessions.Cookie.Name, Value: token}
}

func fromSession(sessions *scs.SessionManager, name string) middleware.Resolver {
	return middleware.SessionAccount(func(ctx context.Context) string { return sessions.GetString(ctx, name) })
}

// prepared resolves every request to one key.
func prepared(key tokencache.Key) middleware.Resolver {
	return func(*http.Request) (tokencache.Key, bool) { return key, true }
}

// site is a way to find out whose request it is.
type site struct {
	name   string
	around func(http.Handler) http.Handler
	cookie *http.Cookie
}

// sites are the middleware alone, and within scs sessions.
func sites(t testing.TB, c *tokencache.Cache, ticket tokencache.Ticket) []site {
	t.Helper()
	sessions := newSessions()
	return []site{
		{"plain", middleware.LoadAndSave(c, prepared(ticket.Key())), &http.Cookie{Name: "unused", Value: "unused"}},
		{"scs", func(next http.Handler) http.Handler {
			return sessions.LoadAndSave(middleware.LoadAndSave(c, fromSession(sessions, "ticket"))(next))
		}, newSession(t, sessions, map[string]string{"ticket": ticket.Encode()})},
	}
}

func serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// newRequest is a request that ends with the test's patience.
func newRequest(t testing.TB, s *httptest.Server, cookie *http.Cookie, body io.Reader) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	if cookie != nil {
		r.AddCookie(cookie)
	}
	return r
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

// send is do for other goroutines than the test's.
func send(s *httptest.Server, r *http.Request) (answer, error) {
	resp, err := s.Client().Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp, string(body)}, err
}

func do(t testing.TB, s *httptest.Server, r *http.Request) answer {
	t.Helper()
	got, err := send(s, r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
