package interop_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	clientID     = "aaaaaaaa-0000-0000-0000-000000000001"
	clientSecret = "marker-client-secret"
	callbackURL  = "http://127.0.0.1:45678/callback"
	readScope    = "api://tasks/Tasks.Read"
	mailScope    = "api://mail/Mail.Send"
)

// world is an authorization server that looks like Microsoft Entra ID, whose refresh
// tokens are good for one use, and MSAL Node for those who work with it.
type world struct {
	idp         *idp.Server
	node        *node
	certificate string // a file
}

func newWorld(t *testing.T, n *node) *world {
	t.Helper()
	s, err := idp.Listen("127.0.0.1:0", &idp.Options{TLS: true, Clients: []idp.Client{
		{ID: clientID, Secret: clientSecret, RedirectURIs: []string{callbackURL}},
	}})
	check(t, err)
	t.Cleanup(func() { check(t, s.Close(context.Background())) })
	w := &world{idp: s, node: n, certificate: filepath.Join(t.TempDir(), "certificate")}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	check(t, os.WriteFile(w.certificate, text, 0o600))
	return w
}

// authority is what Microsoft's libraries call the server.
func (w *world) authority() string { return strings.TrimSuffix(w.idp.TenantURL(), "/v2.0") }

// try has MSAL Node do a step.
func (w *world) try(t *testing.T, s *step) *outcome {
	t.Helper()
	s.Authority = w.authority()
	s.ClientID, s.ClientSecret, s.RedirectURI = clientID, clientSecret, callbackURL
	return w.node.run(t, w.certificate, s)
}

// step is try without an error.
func (w *world) step(t *testing.T, s *step) *outcome {
	t.Helper()
	o := w.try(t, s)
	if o.Error != "" {
		t.Fatalf("MSAL Node, step %s: %s %s", s.Name, o.Error, o.Suberror)
	}
	return o
}

// signInToNode signs a user in with MSAL Node.
func (w *world) signInToNode(t *testing.T, user string, scopes ...string) *outcome {
	t.Helper()
	begun := w.step(t, &step{Name: "authorize", Scopes: scopes})
	q := w.browse(t, begun.URL, user)
	return w.step(t, &step{Name: "redeem", Scopes: scopes, Code: q.Get("code"), Verifier: begun.Verifier, Nonce: begun.Nonce})
}

// silent asks MSAL Node for a token of the only account in its cache.
func (w *world) silent(t *testing.T, cache json.RawMessage, force bool, scope string) *outcome {
	t.Helper()
	return w.step(t, &step{Name: "silent", Scopes: []string{scope}, Force: force, Cache: cache})
}

// adopted is silent with what coatcheck has written.
func (w *world) adopted(t *testing.T, blob []byte, force bool, scope string) *outcome {
	t.Helper()
	return w.step(t, &step{Name: "silent", Scopes: []string{scope}, Force: force, Cache: blob, Adopt: true})
}

// browse submits the login form, and returns what comes to the redirect URL.
func (w *world) browse(t *testing.T, authURL, user string) url.Values {
	t.Helper()
	browser := w.client(t)
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := browser.PostForm(authURL, url.Values{"username": {user}})
	check(t, err)
	defer resp.Body.Close()
	_, query, ok := strings.Cut(resp.Header.Get("Location"), "?")
	if resp.StatusCode != http.StatusSeeOther || !ok {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("the login form was answered with %d: %.200s", resp.StatusCode, body)
	}
	q, err := url.ParseQuery(query)
	check(t, err)
	return q
}

// client trusts the server.
func (w *world) client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.idp.CertPool()}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// app is the same web app on coatcheck.
type app struct {
	*xoauth2.Client
	cache *tokencache.Cache
}

func (w *world) app(t *testing.T) *app {
	t.Helper()
	cache := newCache(t, w.idp.TenantURL())
	c, err := xoauth2.New(t.Context(), cache, &xoauth2.Options{
		ClientSecret: clientSecret, RedirectURL: callbackURL, Scopes: []string{readScope}, HTTPClient: w.client(t),
	})
	check(t, err)
	return &app{c, cache}
}

func newCache(t *testing.T, issuer string) *tokencache.Cache {
	t.Helper()
	return newCacheOf(t, issuer, clientID)
}

func newCacheOf(t *testing.T, issuer, client string) *tokencache.Cache {
	t.Helper()
	provider, err := memory.New(nil)
	check(t, err)
	t.Cleanup(func() { check(t, provider.Close(context.Background())) })
	cache, err := tokencache.New(provider, tokencache.Namespace{Issuer: issuer, ClientID: client}, nil)
	check(t, err)
	t.Cleanup(func() { check(t, cache.Close(context.Background())) })
	return cache
}

// signIn signs a user in with coatcheck.
func (w *world) signIn(t *testing.T, a *app, user string) tokencache.Ticket {
	t.Helper()
	authURL, s, err := a.BeginSignIn(nil)
	check(t, err)
	ticket, err := a.CompleteSignIn(t.Context(), s, w.browse(t, authURL, user))
	check(t, err)
	return ticket
}

// token asks for one of the user's.
func (a *app) token(t *testing.T, ticket tokencache.Ticket, scope string) tokencache.Token {
	t.Helper()
	tok, err := a.Token(tokencache.NewContext(t.Context(), a.cache.Partition(ticket.Key())), scope)
	check(t, err)
	return tok
}

// tokens reads a cache of another library.
func tokens(t *testing.T, b []byte) *tokencache.Tokens {
	t.Helper()
	var all tokencache.Tokens
	check(t, all.UnmarshalJSON(b))
	return &all
}

// export returns what is stored of the user, for another library.
func (a *app) export(t *testing.T, ticket tokencache.Ticket) (*tokencache.Tokens, []byte) {
	t.Helper()
	all, err := a.cache.Partition(ticket.Key()).Tokens(t.Context())
	check(t, err)
	b, err := all.MarshalJSON()
	check(t, err)
	return all, b
}

// refreshes counts what the server is asked while f runs, and fails if that is anything
// but so many refreshes with tokens that were not used before.
func (w *world) refreshes(t *testing.T, n int64, f func()) {
	t.Helper()
	want := w.idp.Stats()
	f()
	want.TokenRequests.RefreshToken += n
	if got := w.idp.Stats(); got.TokenRequests != want.TokenRequests || got.RefreshReused != 0 || got.FamiliesRevoked != 0 {
		t.Errorf("the server was asked %+v, want %+v; %d reused, %d revoked",
			got.TokenRequests, want.TokenRequests, got.RefreshReused, got.FamiliesRevoked)
	}
}

// digest is what MSAL Node's process shows in place of a token.
func digest(token tokencache.Secret) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
