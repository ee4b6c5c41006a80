package flows_test

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	callbackURL = "http://127.0.0.1:45678/callback"
	mineScope   = "api://mine/Read"
	firstScope  = "api://first/Read"
	secondScope = "api://second/Read"
	thirdScope  = "api://second/Write"
)

// world is an authorization server, and a store that machines share.
type world struct {
	idp   *idp.Server
	store *store
	keys  *tokencache.Keys
}

// newWorld has a web app that is an API too (app), and an API (first).
func newWorld(t *testing.T, b backend, o idp.Options) *world {
	t.Helper()
	o.Clients = append(o.Clients,
		idp.Client{
			ID: "app", Secret: "marker-app-secret", RedirectURIs: []string{"http://127.0.0.1/callback"},
			Audiences: []string{"api://mine"},
		},
		idp.Client{ID: "first", Secret: "marker-first-secret", Audiences: []string{"api://first"}},
	)
	s, err := idp.Listen("127.0.0.1:0", &o)
	check(t, err)
	t.Cleanup(func() { check(t, s.Close(context.Background())) })
	ring, err := tokencache.NewKeyRing(random())
	check(t, err)
	return &world{idp: s, store: b.start(t), keys: &tokencache.Keys{Names: random(), Seal: ring}}
}

// machine is a client on a machine of its own.
type machine struct {
	*xoauth2.Client
	cache *tokencache.Cache
	seen  *names
}

func (w *world) machine(t *testing.T, clientID string, o *xoauth2.Options) *machine {
	t.Helper()
	seen := &names{Provider: w.store.connect(t)}
	cache, err := tokencache.New(seen, tokencache.Namespace{Issuer: w.idp.URL(), ClientID: clientID},
		&tokencache.Options{Keys: w.keys, ProviderTimeout: 10 * time.Second})
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		check(t, cache.Close(ctx))
	})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	o.HTTPClient = &http.Client{Transport: transport}
	c, err := xoauth2.New(t.Context(), cache, o)
	check(t, err)
	return &machine{c, cache, seen}
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
	ticket, err := m.CompleteSignIn(t.Context(), s, browse(t, authURL, user))
	check(t, err)
	return ticket
}

// browse submits the login form, and returns what comes to the redirect URL.
func browse(t *testing.T, authURL, user string) url.Values {
	t.Helper()
	hc := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := hc.PostForm(authURL, url.Values{"username": {user}})
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
