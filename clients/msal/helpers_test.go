package msal_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	callbackURL = "http://127.0.0.1:45678/callback"
	mineScope   = "api://mine/Read"
	firstScope  = "api://first/Read"
	secondScope = "api://second/Read"
	thirdScope  = "api://second/Write"

	appSecret, firstSecret = "marker-app-secret", "marker-first-secret"
)

// world is an authorization server that MSAL can work with, and a store that machines
// share.
type world struct {
	idp      *idp.Server
	provider tokencache.Provider
	metadata *counting // what the machines have asked the server
}

func newWorld(t *testing.T, o idp.Options) *world {
	t.Helper()
	o.TLS = true
	o.Clients = append(o.Clients,
		idp.Client{
			ID: "app", Secret: appSecret, RedirectURIs: []string{"http://127.0.0.1/callback"}, Audiences: []string{"api://mine"},
		},
		idp.Client{ID: "first", Secret: firstSecret, Audiences: []string{"api://first"}},
		idp.Client{ID: "public", Public: true, RedirectURIs: []string{"http://127.0.0.1/callback"}},
	)
	s, err := idp.Listen("127.0.0.1:0", &o)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close(context.Background())) })
	p, err := memory.New(nil)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close(context.Background())) })
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CertPool()}}
	t.Cleanup(transport.CloseIdleConnections)
	return &world{idp: s, provider: p, metadata: &counting{base: transport}}
}

// http returns the machines' HTTP client.
func (w *world) http() *http.Client { return &http.Client{Transport: w.metadata} }

// machine is a client on a machine of its own.
type machine struct {
	*xoauth2.Client
	cache *tokencache.Cache
}

func (w *world) machine(t *testing.T, clientID string, o msal.Options) *machine {
	t.Helper()
	o.HTTPClient = w.http()
	o.DisableInstanceDiscovery = true
	m, err := w.try(t, w.provider, clientID, &o)
	must(t, err)
	return m
}

func (w *world) try(t *testing.T, p tokencache.Provider, clientID string, o *msal.Options) (*machine, error) {
	t.Helper()
	cache, err := tokencache.New(p, tokencache.Namespace{Issuer: w.idp.TenantURL(), ClientID: clientID}, nil)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		must(t, cache.Close(ctx))
	})
	c, err := msal.New(t.Context(), cache, o)
	return &machine{c, cache}, err
}

func (w *world) app(t *testing.T) *machine {
	t.Helper()
	return w.machine(t, "app", msal.Options{ClientSecret: appSecret, RedirectURL: callbackURL, Scopes: []string{mineScope}})
}

func (w *world) api(t *testing.T) *machine {
	t.Helper()
	return w.machine(t, "first", msal.Options{ClientSecret: firstSecret})
}

// signIn signs a user in as a browser does.
func (w *world) signIn(t *testing.T, m *machine, user string, o *xoauth2.SignInOptions) tokencache.Ticket {
	t.Helper()
	authURL, s, err := m.BeginSignIn(o)
	must(t, err)
	ticket, err := m.CompleteSignIn(t.Context(), s, w.browse(t, authURL, user))
	must(t, err)
	return ticket
}

// browse submits the login form, and returns what comes to the redirect URL.
func (w *world) browse(t *testing.T, authURL, user string) url.Values {
	t.Helper()
	hc := &http.Client{
		Transport:     w.metadata.base,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := hc.PostForm(authURL, url.Values{"username": {user}})
	must(t, err)
	defer resp.Body.Close()
	_, query, ok := strings.Cut(resp.Header.Get("Location"), "?")
	if resp.StatusCode != http.StatusSeeOther || !ok {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("the login form was answered with %d: %.200s", resp.StatusCode, body)
	}
	q, err := url.ParseQuery(query)
	must(t, err)
	return q
}

// of is the context of a request of a partition's.
func (m *machine) of(t *testing.T, key tokencache.Key) context.Context {
	t.Helper()
	return tokencache.NewContext(t.Context(), m.cache.Partition(key))
}

// incoming is the context of a request to an API with the token.
func (m *machine) incoming(t *testing.T, token tokencache.Secret, audience string) context.Context {
	t.Helper()
	a, err := tokencache.VerifyAssertion(t.Context(), m.Verifier(audience), string(token))
	must(t, err)
	ctx := tokencache.NewAssertionContext(t.Context(), a)
	return tokencache.NewContext(ctx, m.cache.Partition(tokencache.AssertionKey(a)))
}

func (m *machine) token(t *testing.T, ctx context.Context, scope string) tokencache.Token {
	t.Helper()
	tok, err := m.Token(ctx, scope)
	must(t, err)
	return tok
}

// expire makes the next token of the partition a new one.
func (m *machine) expire(t *testing.T, key tokencache.Key) {
	t.Helper()
	must(t, m.cache.Partition(key).Expire(t.Context()))
}

func (w *world) fault(t *testing.T, f idp.Fault) {
	t.Helper()
	must(t, w.idp.Fault(f))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clean fails the test if the error shows anything that it must not.
func clean(t *testing.T, err error, secrets ...string) {
	t.Helper()
	for _, s := range append(secrets, appSecret, firstSecret) {
		if err != nil && strings.Contains(err.Error(), s) {
			t.Error("the error shows a secret")
		}
	}
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	must(t, err)
	return u.Host
}
