package session_test

import (
	"context"
	"crypto/rand"
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

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/providers/session"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// authority is an authorization server that rotates refresh tokens, and takes each
// once: another use revokes what it has issued since.
type authority struct {
	mu        sync.Mutex
	serial    int
	size      int                        // of what it issues, in bytes more
	live      map[tokencache.Secret]bool // false: spent
	refreshes atomic.Int64
	reused    atomic.Int64
	revoked   atomic.Int64
	deaf      atomic.Bool // to revocations
}

func newAuthority() *authority { return &authority{live: map[tokencache.Secret]bool{}} }

func (a *authority) issue() tokencache.Grant {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	rt := tokencache.Secret(fmt.Sprintf("marker-refresh-%d", a.serial))
	a.live[rt] = true
	return tokencache.Grant{
		AccessToken:  tokencache.Secret(fmt.Sprintf("marker-access-%d-%s", a.serial, strings.Repeat("x", a.size))),
		RefreshToken: rt,
		Scopes:       []string{"read"},
		Expires:      time.Now().Add(time.Hour),
	}
}

func (a *authority) signIn(account string) func(context.Context) (tokencache.Grant, error) {
	return func(context.Context) (tokencache.Grant, error) {
		g := a.issue()
		g.Account = tokencache.Account{ID: account}
		return g, nil
	}
}

func (a *authority) Refresh(_ context.Context, rt tokencache.Secret, _ tokencache.Request) (tokencache.Grant, error) {
	a.refreshes.Add(1)
	a.mu.Lock()
	ok, known := a.live[rt]
	switch {
	case ok:
		a.live[rt] = false
	case known:
		a.reused.Add(1)
		clear(a.live)
	}
	a.mu.Unlock()
	if !ok { // reused, or revoked
		return tokencache.Grant{}, tokencache.ErrInvalidGrant
	}
	return a.issue(), nil
}

func (a *authority) Revoke(_ context.Context, rt tokencache.Secret) error {
	if a.deaf.Load() {
		return &tokencache.ServerError{Err: errors.New("down")}
	}
	a.revoked.Add(1)
	a.mu.Lock()
	delete(a.live, rt)
	a.mu.Unlock()
	return nil
}

func newKeys(t testing.TB) *tokencache.Keys {
	t.Helper()
	secret := func() []byte {
		b := make([]byte, tokencache.KeySize)
		_, _ = rand.Read(b)
		return b
	}
	ring, err := tokencache.NewKeyRing(secret())
	must(t, err)
	return &tokencache.Keys{Names: secret(), Seal: ring}
}

func newCache(t testing.TB, p tokencache.Provider, keys *tokencache.Keys) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.New(p, tokencache.Namespace{Issuer: "https://login.example", ClientID: "app"},
		&tokencache.Options{Keys: keys, ProviderTimeout: 5 * time.Second})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// app is how a web app keeps tokens.
type app interface {
	// around is what comes between scs and the handlers.
	around(http.Handler) http.Handler
	signIn(ctx context.Context) error
	// refresh spends the refresh token, and keeps the next one.
	refresh(ctx context.Context) error
	signOut(ctx context.Context) error
}

// ours is an app with this package.
type ours struct {
	provider  *session.Provider
	keys      *tokencache.Keys
	cache     *tokencache.Cache
	authority *authority
}

func newApp(t testing.TB, p *session.Provider) *ours {
	t.Helper()
	keys := newKeys(t)
	return &ours{p, keys, newCache(t, p, keys), newAuthority()}
}

func (o *ours) around(next http.Handler) http.Handler {
	return middleware.LoadAndSave(o.cache, o.provider.Key)(next)
}

func (o *ours) signIn(ctx context.Context) error { return o.signInAs(ctx, "marker-user") }

func (o *ours) signInAs(ctx context.Context, account string) error {
	reference, err := o.provider.Reference(ctx)
	if err != nil {
		return err
	}
	_, err = o.provider.SignIn(ctx, func(ctx context.Context) (tokencache.Ticket, error) {
		return o.cache.SignInSession(ctx, reference, o.authority.signIn(account))
	})
	return err
}

var read = tokencache.Request{Scopes: []string{"read"}}

func (o *ours) refresh(ctx context.Context) error {
	p, ok := o.cache.FromContext(ctx)
	if !ok {
		return tokencache.ErrNoTokens
	}
	req := read
	tok, err := p.Token(ctx, req, o.authority)
	if err != nil {
		return err
	}
	req.Refused = tok.AccessToken // so says the API
	_, err = p.Token(ctx, req, o.authority)
	return err
}

func (o *ours) signOut(ctx context.Context) error {
	return o.provider.Destroy(ctx, o.cache, func(ctx context.Context) error {
		p, _ := o.cache.FromContext(ctx)
		return p.SignOut(ctx, o.authority)
	})
}

// naive is an app that keeps tokens in session values, as one does.
type naive struct {
	sessions  *scs.SessionManager
	authority *authority
}

func (n *naive) around(next http.Handler) http.Handler { return next }

func (n *naive) signIn(ctx context.Context) error {
	if err := n.sessions.RenewToken(ctx); err != nil {
		return err
	}
	n.put(ctx, n.authority.issue())
	return nil
}

func (n *naive) put(ctx context.Context, g tokencache.Grant) {
	n.sessions.Put(ctx, "access", string(g.AccessToken))
	n.sessions.Put(ctx, "refresh", string(g.RefreshToken))
}

func (n *naive) refresh(ctx context.Context) error {
	rt := n.sessions.GetString(ctx, "refresh")
	if rt == "" {
		return tokencache.ErrNoTokens
	}
	g, err := n.authority.Refresh(ctx, tokencache.Secret(rt), read)
	if err == nil {
		n.put(ctx, g)
	}
	return err
}

func (n *naive) signOut(ctx context.Context) error {
	_ = n.authority.Revoke(ctx, tokencache.Secret(n.sessions.GetString(ctx, "refresh")))
	return n.sessions.Destroy(ctx)
}

// world is an app that serves HTTP.
type world struct {
	app       app
	sessions  *scs.SessionManager
	authority *authority
	server    *httptest.Server
	// began is sent to when a slow request has its session, and goOn is received from
	// before it ends.
	began, goOn chan struct{}
	cookie      *http.Cookie
}

func newWorld(t testing.TB, sessions *scs.SessionManager, a app, of *authority) *world {
	t.Helper()
	w := &world{app: a, sessions: sessions, authority: of, began: make(chan struct{}), goOn: make(chan struct{})}
	mux := http.NewServeMux()
	for path, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"/signin":  func(_ http.ResponseWriter, r *http.Request) error { return a.signIn(r.Context()) },
		"/signout": func(_ http.ResponseWriter, r *http.Request) error { return a.signOut(r.Context()) },
		"/refresh": func(_ http.ResponseWriter, r *http.Request) error { return a.refresh(r.Context()) },
		"/renew":   func(_ http.ResponseWriter, r *http.Request) error { return sessions.RenewToken(r.Context()) },
		// Reads its session, and takes its time.
		"/slow": func(_ http.ResponseWriter, r *http.Request) error {
			_ = sessions.GetString(r.Context(), "color")
			w.wait()
			return nil
		},
		// Writes something else into its session, and takes its time.
		"/slow-write": func(_ http.ResponseWriter, r *http.Request) error {
			sessions.Put(r.Context(), "color", "blue")
			w.wait()
			return nil
		},
		"/late": func(rw http.ResponseWriter, r *http.Request) error {
			_, _ = io.WriteString(rw, "first byte, ")
			if err := http.NewResponseController(rw).Flush(); err != nil {
				return err
			}
			return a.refresh(r.Context())
		},
		"/panic": func(_ http.ResponseWriter, r *http.Request) error {
			if err := a.refresh(r.Context()); err != nil {
				return err
			}
			panic(http.ErrAbortHandler)
		},
	} {
		mux.HandleFunc(path, func(rw http.ResponseWriter, r *http.Request) {
			switch err := h(rw, r); {
			case err == nil:
				_, _ = io.WriteString(rw, "done")
			case errors.Is(err, tokencache.ErrNoTokens):
				http.Error(rw, err.Error(), http.StatusUnauthorized)
			default:
				http.Error(rw, err.Error(), http.StatusServiceUnavailable)
			}
		})
	}
	w.server = httptest.NewServer(sessions.LoadAndSave(a.around(mux)))
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) wait() {
	w.began <- struct{}{}
	<-w.goOn
}

// answer is a response, or why there was none.
type answer struct {
	status int
	body   string
	cookie *http.Cookie
	err    error
}

// get sends a request for a page with the world's cookie.
func (w *world) get(path string) answer {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// Of a GET whose connection was cut, net/http makes two.
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.server.URL+path, nil)
	if err != nil {
		return answer{err: err}
	}
	if w.cookie != nil {
		r.AddCookie(&http.Cookie{Name: w.cookie.Name, Value: w.cookie.Value})
	}
	resp, err := w.server.Client().Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, body: string(body), err: err}
	for _, c := range resp.Cookies() {
		a.cookie = c
	}
	return a
}

// want asks for a page, and fails the test if it is not answered so.
func (w *world) want(t testing.TB, path string, status int) answer {
	t.Helper()
	a := w.get(path)
	if a.err != nil || a.status != status {
		t.Fatalf("%s: status %d, want %d (%v): %s", path, a.status, status, a.err, a.body)
	}
	return a
}

// enter signs in, and keeps the cookie.
func (w *world) enter(t testing.TB) {
	t.Helper()
	w.cookie = w.want(t, "/signin", http.StatusOK).cookie
	if w.cookie == nil {
		t.Fatal("signed in without a cookie")
	}
}

// slowly runs between while a slow request for the page has its session.
func (w *world) slowly(t testing.TB, path string, between func()) {
	t.Helper()
	done := make(chan answer, 1)
	go func() { done <- w.get(path) }()
	select {
	case <-w.began:
	case a := <-done:
		t.Fatalf("%s has ended: status %d (%v)", path, a.status, a.err)
	}
	between()
	w.goOn <- struct{}{}
	if a := <-done; a.err != nil || a.status != http.StatusOK {
		t.Fatalf("%s: status %d (%v)", path, a.status, a.err)
	}
}
