package azcredential_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	callbackURL = "http://127.0.0.1:45678/callback"
	vaultScope  = "api://vault/.default"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an authorization server, and a service of Azure's that its tokens are for.
type world struct {
	idp     *idp.Server
	cache   *tokencache.Cache
	client  *xoauth2.Client
	http    *http.Client
	service *service
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := idp.Listen("127.0.0.1:0", &idp.Options{TLS: true, TokenLifetime: time.Hour, Clients: []idp.Client{{
		ID: "app", Secret: "marker-app-secret", RedirectURIs: []string{"http://127.0.0.1/callback"}, Audiences: []string{"api://app"},
	}}})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close(context.Background())) })
	w := &world{idp: s, service: newService(t)}
	pool := s.CertPool()
	pool.AddCert(w.service.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	w.http = &http.Client{Transport: transport}
	w.cache = newCache(t, tokencache.Namespace{Issuer: s.TenantURL(), ClientID: "app"})
	w.client, err = xoauth2.New(t.Context(), w.cache, &xoauth2.Options{
		ClientSecret: "marker-app-secret", RedirectURL: callbackURL, Scopes: []string{vaultScope}, HTTPClient: w.http, CAE: true,
	})
	must(t, err)
	return w
}

func newCache(t *testing.T, ns tokencache.Namespace) *tokencache.Cache {
	t.Helper()
	p, err := memory.New(nil)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close(context.Background())) })
	cache, err := tokencache.New(p, ns, nil)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		must(t, cache.Close(ctx))
	})
	return cache
}

// signIn signs a user in as a browser does, and returns the context of a request of theirs.
func (w *world) signIn(t *testing.T, user string) context.Context {
	t.Helper()
	authURL, s, err := w.client.BeginSignIn(nil)
	must(t, err)
	browser := *w.http
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := browser.PostForm(authURL, url.Values{"username": {user}})
	must(t, err)
	defer resp.Body.Close()
	_, query, _ := strings.Cut(resp.Header.Get("Location"), "?")
	q, err := url.ParseQuery(query)
	must(t, err)
	ticket, err := w.client.CompleteSignIn(t.Context(), s, q)
	must(t, err)
	return tokencache.NewContext(t.Context(), w.cache.Partition(ticket.Key()))
}

func (w *world) token(t *testing.T, ctx context.Context) string {
	t.Helper()
	tok, err := w.client.Token(ctx, vaultScope)
	must(t, err)
	return string(tok.AccessToken)
}

// asked is how often the authorization server was asked for tokens.
func (w *world) asked() int64 {
	r := w.idp.Stats().TokenRequests
	return r.AuthorizationCode + r.RefreshToken + r.OnBehalfOf + r.ClientCredentials
}

// sdk is a client of the Azure SDK, as each of its packages builds one.
func (w *world) sdk(credential azcore.TokenCredential) *sdk {
	return &sdk{w.service.URL, newPipeline(credential, w.http)}
}

type sdk struct {
	url      string
	pipeline runtime.Pipeline
}

func newPipeline(credential azcore.TokenCredential, transport policy.Transporter) runtime.Pipeline {
	return pipelineOf(runtime.NewBearerTokenPolicy(credential, []string{vaultScope}, nil), transport)
}

func pipelineOf(auth policy.Policy, transport policy.Transporter) runtime.Pipeline {
	return runtime.NewPipeline("azcredential", "v0.0.0",
		runtime.PipelineOptions{PerRetry: []policy.Policy{auth}},
		&policy.ClientOptions{Transport: transport, Retry: policy.RetryOptions{RetryDelay: time.Millisecond}})
}

// do makes a request in the name of somebody, who the service is told for the test's sake.
func (s *sdk) do(t *testing.T, ctx context.Context, name string) (int, error) {
	t.Helper()
	return send(t, ctx, s.pipeline, s.url+"/"+name)
}

func send(t *testing.T, ctx context.Context, p runtime.Pipeline, address string) (int, error) {
	t.Helper()
	req, err := runtime.NewRequest(ctx, http.MethodGet, address)
	must(t, err)
	resp, err := p.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// service answers everybody, and notes whose request came with which token.
type service struct {
	*httptest.Server

	mu        sync.Mutex
	tokens    map[string][]string // by path
	challenge func(token string) string
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{tokens: map[string][]string{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, token := strings.TrimPrefix(r.URL.Path, "/"), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.tokens[name] = append(s.tokens[name], token)
	if s.challenge == nil {
		return
	}
	if c := s.challenge(token); c != "" {
		w.Header().Set("WWW-Authenticate", c)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// challenging makes the service answer with a challenge, unless it is empty.
func (s *service) challenging(challenge func(token string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.challenge = challenge
}

// seen returns the tokens that came in somebody's name.
func (s *service) seen(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.tokens[name]...)
}

// fake is a client that answers as it is told.
type fake func(context.Context, tokencache.Request) (tokencache.Token, error)

func (f fake) Acquire(ctx context.Context, r tokencache.Request) (tokencache.Token, error) {
	return f(ctx, r)
}

func (f fake) AppToken(ctx context.Context, r tokencache.Request) (tokencache.Token, error) {
	return f(ctx, r)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
