package flows_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zalando/go-keyring"
	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestMain(m *testing.M) {
	// The real one is that of the tests of providers/file.
	keyring.MockInit()
	_ = os.Setenv("DBUS_SESSION_BUS_ADDRESS", "a session")
	goleak.VerifyTestMain(m)
}

const (
	callbackURL = "http://127.0.0.1:45678/callback"
	mineScope   = "api://mine/Read"
	firstScope  = "api://first/Read"
	secondScope = "api://second/Read"
	thirdScope  = "api://second/Write"
)

// world is an authorization server, and a store that machines share.
type world struct {
	idp    *idp.Server
	store  *store
	keys   *tokencache.Keys
	issuer string
	client newClient
}

// newClient is [xoauth2.New], or that of MSAL with the same options.
type newClient func(context.Context, *tokencache.Cache, *xoauth2.Options) (*xoauth2.Client, error)

var newClients = map[string]newClient{
	"xoauth2": xoauth2.New,
	"msal": func(ctx context.Context, cache *tokencache.Cache, o *xoauth2.Options) (*xoauth2.Client, error) {
		return msal.New(ctx, cache, &msal.Options{
			ClientSecret: o.ClientSecret, ClientAssertion: o.ClientAssertion, RedirectURL: o.RedirectURL, Scopes: o.Scopes,
			HTTPClient: o.HTTPClient, DisableInstanceDiscovery: true,
		})
	},
}

// newWorld has a web app that is an API too (app), and an API (first).
func newWorld(t *testing.T, b backend, o idp.Options) *world {
	t.Helper()
	return newWorldOf(t, "xoauth2", b.start(t), o)
}

// newWorldOf is newWorld for machines with the client of that name. MSAL needs an
// authority that looks like Microsoft Entra ID, on https.
func newWorldOf(t *testing.T, client string, s *store, o idp.Options) *world {
	t.Helper()
	o.TLS = client == "msal"
	o.Clients = append(o.Clients,
		idp.Client{
			ID: "app", Secret: "marker-app-secret", RedirectURIs: []string{"http://127.0.0.1/callback"},
			Audiences: []string{"api://mine"}, PublicPassword: o.TLS, // MSAL has no secret in that request
		},
		idp.Client{ID: "first", Secret: "marker-first-secret", Audiences: []string{"api://first"}},
	)
	server, err := idp.Listen("127.0.0.1:0", &o)
	check(t, err)
	t.Cleanup(func() { check(t, server.Close(context.Background())) })
	ring, err := tokencache.NewKeyRing(random())
	check(t, err)
	w := &world{idp: server, store: s, keys: &tokencache.Keys{Names: random(), Seal: ring}, issuer: server.URL(), client: newClients[client]}
	if o.TLS {
		w.issuer = server.TenantURL()
	}
	return w
}

// machine is a client on a machine of its own.
type machine struct {
	*xoauth2.Client
	cache *tokencache.Cache
	seen  *names
	world *world
}

func (w *world) machine(t *testing.T, clientID string, o *xoauth2.Options) *machine {
	t.Helper()
	seen := &names{Provider: w.store.connect(t)}
	cache, err := tokencache.New(seen, tokencache.Namespace{Issuer: w.issuer, ClientID: clientID},
		&tokencache.Options{Keys: w.keys, ProviderTimeout: patience})
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		check(t, cache.Close(ctx))
	})
	transport := w.transport()
	t.Cleanup(transport.CloseIdleConnections)
	o.HTTPClient = &http.Client{Transport: transport}
	c, err := w.client(t.Context(), cache, o)
	check(t, err)
	return &machine{c, cache, seen, w}
}

// transport trusts the server.
func (w *world) transport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.idp.CertPool()}}
}

// app is the web app on one more machine.
func (w *world) app(t *testing.T) *machine {
	t.Helper()
	return w.machine(t, "app", &xoauth2.Options{
		ClientSecret: "marker-app-secret", RedirectURL: callbackURL, Scopes: []string{mineScope},
	})
}

// api is the API on one more machine.
func (w *world) api(t *testing.T) *machine {
	t.Helper()
	return w.machine(t, "first", &xoauth2.Options{ClientSecret: "marker-first-secret"})
}

// signIn signs a user in as a browser does.
func (m *machine) signIn(t *testing.T, user string, o *xoauth2.SignInOptions) tokencache.Ticket {
	t.Helper()
	authURL, s, err := m.BeginSignIn(o)
	check(t, err)
	ticket, err := m.CompleteSignIn(t.Context(), s, m.world.browse(t, authURL, user))
	check(t, err)
	return ticket
}

// browse submits the login form, and returns what comes to the redirect URL.
func (w *world) browse(t *testing.T, authURL, user string) url.Values {
	t.Helper()
	_, query, _ := strings.Cut(w.sentTo(t, authURL, user), "?")
	q, err := url.ParseQuery(query)
	check(t, err)
	return q
}

// sentTo submits the login form, and returns where the browser is sent then.
func (w *world) sentTo(t *testing.T, authURL, user string) string {
	t.Helper()
	transport := w.transport()
	defer transport.CloseIdleConnections()
	hc := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := hc.PostForm(authURL, url.Values{"username": {user}})
	check(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("the login form was answered with %d: %.200s", resp.StatusCode, body)
	}
	return resp.Header.Get("Location")
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
	check(t, err)
	ctx := tokencache.NewAssertionContext(t.Context(), a)
	return tokencache.NewContext(ctx, m.cache.Partition(tokencache.AssertionKey(a)))
}

// token is one for the scope.
func (m *machine) token(t *testing.T, ctx context.Context, scope string) tokencache.Token {
	t.Helper()
	tok, err := m.Token(ctx, scope)
	check(t, err)
	return tok
}

// expire makes the next token of the partition a new one.
func (m *machine) expire(t *testing.T, key tokencache.Key) {
	t.Helper()
	check(t, m.cache.Partition(key).Expire(t.Context()))
}

// names remembers what was saved.
type names struct {
	tokencache.Provider
	all sync.Map // of tokencache.Name
}

func (n *names) Save(ctx context.Context, name tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	n.all.Store(name, true)
	return n.Provider.Save(ctx, name, r, c)
}

// left counts what is stored still under the names, tombstones apart, and how many
// names there are.
func (n *names) left(t *testing.T) (records, of int) {
	t.Helper()
	n.all.Range(func(name, _ any) bool {
		of++
		if r, err := n.Load(t.Context(), name.(tokencache.Name)); err == nil && !r.Removed() {
			records++
		}
		return true
	})
	return records, of
}

func random() []byte {
	b := make([]byte, tokencache.KeySize)
	_, _ = rand.Read(b) // never fails
	return b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
