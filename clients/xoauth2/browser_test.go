package xoauth2_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// desktop is the configuration of a public client that any loopback URL is
// registered for.
func desktop(redirect string) config {
	return config{public: true, redirect: redirect, idp: idp.Options{Clients: []idp.Client{{
		ID: idp.DefaultClientID, Public: true, RedirectURIs: []string{
			"http://localhost", "http://127.0.0.1", "http://[::1]", "http://127.0.0.1/back/to%20it",
		},
	}}}}
}

// newDesktop is newFixture without [xoauth2.Options].RedirectURL, unless there is one.
func newDesktop(t *testing.T, c config) *fixture {
	t.Helper()
	f := newFixture(t, c)
	if c.redirect == "" {
		f.client = newClient(t, f.cache, &xoauth2.Options{Scopes: []string{"profile", apiScope}, HTTPClient: httpClient(t)})
	}
	return f
}

// visit is what a user's browser has seen.
type visit struct {
	authURL  *url.URL
	back     string // the redirect URL that the server has sent the browser to
	status   int
	header   http.Header
	page     string
	answered bool
}

// visitor signs in as a user by the form of the server, with an HTTP client as the
// browser.
type visitor struct {
	t      *testing.T
	user   string
	client *http.Client
	// before, unless nil, may change where the browser goes back to.
	before func(back *url.URL)
	seen   chan visit
}

func newVisitor(t *testing.T, user string) *visitor {
	t.Helper()
	hc := httpClient(t)
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &visitor{t: t, user: user, client: hc, seen: make(chan visit, 1)}
}

// open is [xoauth2.BrowserOptions].OpenURL.
func (p *visitor) open(authURL string) error {
	u, err := url.Parse(authURL)
	if err != nil {
		return err
	}
	v := visit{authURL: u}
	defer func() { p.seen <- v }()
	resp, err := p.client.PostForm(authURL, url.Values{"username": {p.user}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusSeeOther {
		return errors.New("the server has not sent the browser back: status " + strconv.Itoa(resp.StatusCode))
	}
	if p.before != nil {
		p.before(back)
	}
	v.back = back.String()
	v.status, v.header, v.page, v.answered = load(p.client, v.back)
	return nil
}

// load loads a page. It is not answered if the connection ends without.
func load(hc *http.Client, address string) (status int, header http.Header, page string, answered bool) {
	resp, err := hc.Get(address)
	if err != nil {
		return 0, nil, "", false
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b), err == nil
}

// saw returns what the visitor has seen.
func (p *visitor) saw() visit {
	p.t.Helper()
	select {
	case v := <-p.seen:
		return v
	case <-time.After(20 * time.Second):
		p.t.Fatal("the browser has not come back")
	}
	return visit{}
}

// within bounds a test's sign-in.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// unused fails the test if somebody listens at the address of a redirect URL.
func unused(t *testing.T, redirect *url.URL) {
	t.Helper()
	for _, ip := range []string{"127.0.0.1", "::1"} {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, redirect.Port()), time.Second)
		if err == nil {
			_ = conn.Close()
			t.Errorf("somebody still listens on %s", ip)
		}
	}
}

func redirectOf(t *testing.T, v visit) *url.URL {
	t.Helper()
	u, err := url.Parse(v.authURL.Query().Get("redirect_uri"))
	if err != nil || u.Port() == "" {
		t.Fatalf("the redirect URL %q has no port", v.authURL.Query().Get("redirect_uri"))
	}
	return u
}

// TestSignInWithBrowser signs in with each form of Options.RedirectURL. The server
// compares the redirect_uri of both requests.
func TestSignInWithBrowser(t *testing.T) {
	t.Parallel()
	fixed := freePort(t)
	for name, tt := range map[string]struct {
		redirect, host, rest string
		entra                bool
	}{
		"plain":        {"", "127.0.0.1", "", false},
		"entra":        {"", "localhost", "", true},
		"path":         {"http://127.0.0.1/back/to%20it", "127.0.0.1", "/back/to%20it", false},
		"localhost":    {"http://localhost", "localhost", "", false},
		"IPv6":         {"http://[::1]", "::1", "", false},
		"port":         {"http://localhost:" + fixed, "localhost", "", true},
		"IPv4 at both": {"http://127.0.0.1", "127.0.0.1", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.host == "::1" && !hasIPv6(t) {
				t.Skip("this machine has no IPv6")
			}
			c := desktop(tt.redirect)
			c.entra = tt.entra
			f := newDesktop(t, c)
			p := newVisitor(t, "anna")
			ticket, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: p.open})
			if err != nil {
				t.Fatal(err)
			}
			v := p.saw()
			redirect := redirectOf(t, v)
			if redirect.Hostname() != tt.host || redirect.EscapedPath() != tt.rest || redirect.Scheme != "http" {
				t.Errorf("the redirect URL is %s", redirect)
			}
			if tt.redirect == "http://localhost:"+fixed && redirect.Port() != fixed {
				t.Errorf("the port is %s", redirect.Port())
			}
			if v.status != http.StatusOK || !strings.Contains(v.page, "<h1>You are signed in.</h1>\n<p>You can close this window.</p>") {
				t.Errorf("the page has the status %d: %s", v.status, v.page)
			}
			unused(t, redirect)
			ctx := tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key()))
			tok, err := f.client.Token(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if status, body := f.me(t, tok); status != http.StatusOK || !strings.Contains(body, "anna@contoso.test") {
				t.Errorf("the API answered %d %s", status, body)
			}
			f.expire(t, ctx)
			if _, err := f.client.Token(ctx); err != nil {
				t.Error("the refresh:", err)
			}
			if got := f.idp.Stats().TokenRequests; got.AuthorizationCode != 1 || got.RefreshToken != 1 {
				t.Errorf("token requests %+v", got)
			}
		})
	}
}

func hasIPv6(t *testing.T) bool {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestBrowserRedirectURL(t *testing.T) {
	t.Parallel()
	for _, redirect := range []string{
		"https://app.example.com/callback", "https://localhost", "http://app.example.com", "http://localhost.example.com",
		"http://127.0.0.2", "http://0.0.0.0", "http://[::]", "http://localhost?a=b", "http://localhost?", "http://user@localhost",
		"http://localhost:0", "http://localhost:", "http://localhost:080", "http://localhost:65536", "http://LOCALHOST",
		"http://localhost/a/../b", "http://localhost/.", `http://localhost/a\b`, "com.example.app:/callback", "HTTP://localhost",
		"http://[::1%25lo]", "http://127.1",
	} {
		f := newFixture(t, desktop(redirect))
		_, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{
			OpenURL: func(string) error { t.Error("the browser was opened"); return nil },
		})
		if err == nil || !strings.Contains(err.Error(), "http://localhost") || !strings.Contains(err.Error(), "Options.RedirectURL") {
			t.Errorf("%s: got %v, want what to do", redirect, err)
		}
	}
}

// TestBrowserPort: a port that is named is not exchanged for another one, of either
// address family.
func TestBrowserPort(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		if address == "[::1]:0" && !hasIPv6(t) {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		f := newFixture(t, desktop("http://localhost:"+port))
		_, err = f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{
			OpenURL: func(string) error { t.Error("the browser was opened"); return nil },
		})
		if err == nil || !strings.Contains(err.Error(), port) || !strings.Contains(err.Error(), "another program") {
			t.Errorf("got %v, want that the port is in use", err)
		}
		_ = l.Close()
		p := newVisitor(t, "anna")
		if _, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: p.open}); err != nil {
			t.Error("when the port is free again:", err)
		}
		p.saw()
	}
}

// TestBrowserOnLoopbackOnly asks this machine's other addresses.
func TestBrowserOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	f := newDesktop(t, desktop("http://localhost"))
	p := newVisitor(t, "anna")
	p.before = func(back *url.URL) {
		addresses, err := net.InterfaceAddrs()
		if err != nil {
			t.Error(err)
		}
		for _, a := range addresses {
			n, ok := a.(*net.IPNet)
			if !ok || n.IP.IsLinkLocalUnicast() {
				continue
			}
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(n.IP.String(), back.Port()), time.Second)
			if err == nil {
				_ = conn.Close()
			}
			if (err == nil) != n.IP.IsLoopback() {
				t.Errorf("dialing %s: %v", n.IP, err)
			}
		}
	}
	if _, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: p.open}); err != nil {
		t.Fatal(err)
	}
	p.saw()
}

// TestBrowserOptions: parameters of the sign-in reach the server and the cache.
func TestBrowserOptions(t *testing.T) {
	t.Parallel()
	f := newDesktop(t, desktop(""))
	p := newVisitor(t, "anna")
	ticket, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{
		SignInOptions: xoauth2.SignInOptions{Scopes: []string{mailScope}, LoginHint: "anna", Prompt: "login", Session: "marker-session"},
		OpenURL:       p.open,
	})
	if err != nil {
		t.Fatal(err)
	}
	q := p.saw().authURL.Query()
	if q.Get("login_hint") != "anna" || q.Get("prompt") != "login" || !strings.Contains(q.Get("scope"), mailScope) ||
		q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" || q.Get("state") == "" {
		t.Error("parameters are missing")
	}
	ctx := tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key()))
	if _, err := f.client.Token(ctx, mailScope); err != nil {
		t.Error(err)
	}
	if _, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{
		SignInOptions: xoauth2.SignInOptions{Claims: "no JSON"},
		OpenURL:       func(string) error { t.Error("the browser was opened"); return nil },
	}); err == nil || !strings.Contains(err.Error(), "Claims") {
		t.Errorf("got %v", err)
	}
}

// TestBrowserOpen covers browsers that do not open.
func TestBrowserOpen(t *testing.T) {
	t.Parallel()
	f := newDesktop(t, desktop(""))
	cause := errors.New("no display")
	var redirect *url.URL
	_, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: func(u string) error {
		redirect = redirectOf(t, visit{authURL: must(url.Parse(u))})
		return cause
	}})
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "browser could not be opened: no display") {
		t.Errorf("got %v", err)
	}
	unused(t, redirect)

	var address string
	_, err = f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{
		SignInOptions: xoauth2.SignInOptions{LoginHint: "anna@contoso.test"},
		OpenURL: func(u string) error {
			address = u
			return &url.Error{Op: "Get", URL: u, Err: cause}
		},
	})
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	clean(t, err, address, "anna", must(url.Parse(address)).Query().Get("state"))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestBrowserContext ends the context before, while the user is away, and while the
// code is redeemed.
func TestBrowserContext(t *testing.T) {
	t.Parallel()
	f := newDesktop(t, desktop(""))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.client.SignInWithBrowser(ctx, &xoauth2.BrowserOptions{
		OpenURL: func(string) error { t.Error("the browser was opened"); return nil },
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("before: got %v", err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	var redirect *url.URL
	_, err = f.client.SignInWithBrowser(ctx, &xoauth2.BrowserOptions{OpenURL: func(u string) error {
		redirect = redirectOf(t, visit{authURL: must(url.Parse(u))})
		cancel()
		return nil
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("while the user is away: got %v", err)
	}
	unused(t, redirect)

	ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	f.fault(t, idp.Fault{Endpoint: "token", Kind: "hang", Times: 1})
	p := newVisitor(t, "anna")
	_, err = f.client.SignInWithBrowser(ctx, &xoauth2.BrowserOptions{OpenURL: p.open})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while the code is redeemed: got %v", err)
	}
	v := p.saw()
	if !strings.Contains(v.page, "<h1>The sign-in was stopped.</h1>") {
		t.Errorf("the page is %s", v.page)
	}
	unused(t, redirectOf(t, v))
}

// TestBrowserTwo: two sign-ins at once have ports and states of their own.
func TestBrowserTwo(t *testing.T) {
	t.Parallel()
	f := newDesktop(t, desktop(""))
	var group sync.WaitGroup
	for _, user := range []string{"anna", "bert", "cleo"} {
		group.Go(func() {
			p := newVisitor(t, user)
			ticket, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: p.open})
			if err != nil {
				t.Error(err)
				return
			}
			tok, err := f.client.Token(tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key())))
			if err != nil {
				t.Error(err)
				return
			}
			if _, body := f.me(t, tok); !strings.Contains(body, user+"@contoso.test") {
				t.Errorf("%s has got the tokens of %s", user, body)
			}
		})
	}
	group.Wait()
}
