package xoauth2_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	callbackURL = "http://127.0.0.1:45678/callback"
	apiScope    = "api://coatcheck-example/Data.Read"
	mailScope   = "api://mail/Read"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a client at a local authorization server.
type fixture struct {
	idp      *idp.Server
	cache    *tokencache.Cache
	client   *xoauth2.Client
	writes   *atomic.Int64 // of partitions
	provider tokencache.Provider
}

// config changes what newFixture builds. The zero value is the plain issuer.
type config struct {
	entra    bool
	idp      idp.Options
	timeout  time.Duration
	public   bool
	scopes   []string
	redirect string
}

func newFixture(t *testing.T, c config) *fixture {
	t.Helper()
	s := listen(t, &c.idp)
	issuer := s.URL()
	if c.entra {
		issuer = s.TenantURL()
	}
	f := &fixture{idp: s, writes: new(atomic.Int64)}
	f.provider = newProvider(t)
	f.cache = cacheOn(t, f.provider, issuer, func(context.Context, *tokencache.Access) error {
		f.writes.Add(1)
		return nil
	})
	o := &xoauth2.Options{
		ClientSecret: idp.DefaultClientSecret,
		RedirectURL:  callbackURL,
		Scopes:       []string{"profile", apiScope},
		HTTPClient:   httpClient(t),
	}
	if c.scopes != nil {
		o.Scopes = c.scopes
	}
	if c.redirect != "" {
		o.RedirectURL = c.redirect
	}
	if c.public {
		o.ClientSecret = ""
	}
	o.HTTPClient.Timeout = c.timeout
	f.client = newClient(t, f.cache, o)
	return f
}

func listen(t *testing.T, o *idp.Options) *idp.Server {
	t.Helper()
	s, err := idp.Listen("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error("Close:", err)
		}
	})
	return s
}

func newCache(t *testing.T, issuer string, beforeWrite tokencache.Hook) *tokencache.Cache {
	t.Helper()
	return cacheOn(t, newProvider(t), issuer, beforeWrite)
}

func newProvider(t *testing.T) tokencache.Provider {
	t.Helper()
	provider, err := memory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close(context.WithoutCancel(t.Context())) })
	return provider
}

func cacheOn(t *testing.T, provider tokencache.Provider, issuer string, beforeWrite tokencache.Hook) *tokencache.Cache {
	t.Helper()
	cache, err := tokencache.New(provider,
		tokencache.Namespace{Issuer: issuer, ClientID: idp.DefaultClientID},
		&tokencache.Options{BeforeWrite: beforeWrite})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		if err := cache.Close(ctx); err != nil {
			t.Error("Close:", err)
		}
	})
	return cache
}

func newClient(t *testing.T, cache *tokencache.Cache, o *xoauth2.Options) *xoauth2.Client {
	t.Helper()
	c, err := xoauth2.New(t.Context(), cache, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// httpClient has connections of its own, which end with the test.
func httpClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// begin starts a sign-in.
func (f *fixture) begin(t *testing.T, o *xoauth2.SignInOptions) (string, xoauth2.SignIn) {
	t.Helper()
	authURL, s, err := f.client.BeginSignIn(o)
	if err != nil {
		t.Fatal(err)
	}
	return authURL, s
}

// browse submits the login form and returns what the browser would bring to
// the redirect URL.
func browse(t *testing.T, authURL, user string) url.Values {
	t.Helper()
	hc := httpClient(t)
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := hc.PostForm(authURL, url.Values{"username": {user}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	target, query, _ := strings.Cut(resp.Header.Get("Location"), "?")
	if resp.StatusCode != http.StatusSeeOther || target != callbackURL {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("got status %d to %q, want 303 to the callback: %.200s", resp.StatusCode, target, body)
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// signIn signs a user in and returns the context of a request of theirs.
func (f *fixture) signIn(t *testing.T, user string) context.Context {
	t.Helper()
	ticket := f.ticket(t, user, nil)
	return tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key()))
}

func (f *fixture) ticket(t *testing.T, user string, o *xoauth2.SignInOptions) tokencache.Ticket {
	t.Helper()
	authURL, s := f.begin(t, o)
	ticket, err := f.client.CompleteSignIn(t.Context(), s, browse(t, authURL, user))
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// expire makes the next Token refresh.
func (f *fixture) expire(t *testing.T, ctx context.Context) {
	t.Helper()
	p, ok := f.cache.FromContext(ctx)
	if !ok {
		t.Fatal("no partition in the context")
	}
	if err := p.Expire(ctx); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) fault(t *testing.T, fault idp.Fault) {
	t.Helper()
	if err := f.idp.Fault(fault); err != nil {
		t.Fatal(err)
	}
}

// me asks the protected API whose token it is.
func (f *fixture) me(t *testing.T, token tokencache.Token) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.idp.URL()+"/api/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", token.Type+" "+string(token.AccessToken))
	resp, err := httpClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// clean fails the test if the error shows anything that it must not.
func clean(t *testing.T, err error, secrets ...string) {
	t.Helper()
	for _, s := range append(secrets, idp.DefaultClientSecret) {
		if err != nil && s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}
