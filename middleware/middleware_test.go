package middleware_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counting counts the reads of the provider, and may fail them.
type counting struct {
	tokencache.Provider
	loads atomic.Int64
	down  atomic.Bool
}

func (c *counting) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	c.loads.Add(1)
	if c.down.Load() {
		return tokencache.Record{}, errors.New("connection refused")
	}
	return c.Provider.Load(ctx, n)
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
	c, err := tokencache.New(p, tokencache.Namespace{Issuer: issuer, ClientID: "client"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func signIn(t testing.TB, c *tokencache.Cache, account string) tokencache.Ticket {
	t.Helper()
	ticket, err := c.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
		return tokencache.Grant{
			AccessToken:  tokencache.Secret("access token of " + account),
			RefreshToken: tokencache.Secret("refresh token of " + account),
			Scopes:       []string{"read"},
			Expires:      time.Now().Add(time.Hour),
			Account:      tokencache.Account{ID: account},
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// ticketHeader stands in for a session; never do this.
func ticketHeader(name string) middleware.Resolver {
	type contextKey struct{}
	resolve := middleware.SessionAccount(func(ctx context.Context) string {
		text, _ := ctx.Value(contextKey{}).(string)
		return text
	})
	return func(r *http.Request) (tokencache.Key, bool) {
		return resolve(r.WithContext(context.WithValue(r.Context(), contextKey{}, r.Header.Get(name))))
	}
}

// token answers with the access token of the request's user.
func token(c *tokencache.Cache) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, ok := c.FromContext(r.Context())
		if !ok {
			http.Error(w, "nobody", http.StatusUnauthorized)
			return
		}
		tok, err := p.Token(r.Context(), tokencache.Request{Scopes: []string{"read"}}, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(tok.AccessToken))
	}
}

func get(h http.Handler, header, ticket string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/token", nil)
	r.Header.Set(header, ticket)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestLoadAndSaveWithChi(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	cache := newCache(t, store, "https://login.example")
	alice, bob := signIn(t, cache, "alice"), signIn(t, cache, "bob")

	router := chi.NewRouter()
	router.Use(middleware.LoadAndSave(cache, ticketHeader("Ticket")))
	router.Get("/token", token(cache))

	for _, tt := range []struct {
		name, ticket, want string
		status             int
	}{
		{"alice", alice.Encode(), "access token of alice", 200},
		{"bob", bob.Encode(), "access token of bob", 200},
		{"nobody", "", "nobody\n", 401},
		{"not a ticket", "alice", "nobody\n", 401},
	} {
		if w := get(router, "Ticket", tt.ticket); w.Code != tt.status || w.Body.String() != tt.want {
			t.Errorf("%s: got %d %q, want %d %q", tt.name, w.Code, w.Body, tt.status, tt.want)
		}
	}
}

func TestLoadIsLazyAndShared(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	ticket := signIn(t, newCache(t, store, "https://login.example"), "alice").Encode()
	cache := newCache(t, store, "https://login.example")
	around := middleware.LoadAndSave(cache, ticketHeader("Ticket"))
	before := store.loads.Load()

	get(around(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), "Ticket", ticket)
	if got := store.loads.Load() - before; got != 0 {
		t.Errorf("a request that asked for no token read the provider %d times", got)
	}

	// Parallel sub-requests of one request, each with several tokens.
	get(around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				sub := httptest.NewRecorder()
				for range 3 {
					token(cache)(sub, r)
				}
				if sub.Code != 200 {
					t.Errorf("got %d", sub.Code)
				}
			})
		}
		wg.Wait()
	})), "Ticket", ticket)
	if got := store.loads.Load() - before; got != 1 {
		t.Errorf("one request read the provider %d times, want once", got)
	}
}

func TestSeveralCaches(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	one, two := newCache(t, store, "https://one.example"), newCache(t, store, "https://two.example")
	h := middleware.LoadAndSave(one, ticketHeader("One"))(middleware.LoadAndSave(two, ticketHeader("Two"))(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token(one)(w, r)
			token(two)(w, r)
		})))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("One", signIn(t, one, "alice").Encode())
	r.Header.Set("Two", signIn(t, two, "bob").Encode())
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if want := "access token of aliceaccess token of bob"; w.Body.String() != want {
		t.Errorf("got %q, want %q", w.Body, want)
	}
}

func TestRequireTokens(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	cache := newCache(t, store, "https://login.example")
	present, gone := signIn(t, cache, "alice").Encode(), signIn(t, cache, "bob")
	if err := cache.Partition(gone.Key()).SignOut(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	otherwise := func(w http.ResponseWriter, _ *http.Request, err error) {
		switch {
		case errors.Is(err, tokencache.ErrNoTokens):
			w.WriteHeader(http.StatusUnauthorized)
		case errors.Is(err, tokencache.ErrUnavailable):
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}
	build := func(c *tokencache.Cache) http.Handler {
		return middleware.LoadAndSave(c, ticketHeader("Ticket"))(middleware.RequireTokens(c, otherwise)(token(c)))
	}
	for name, tt := range map[string]struct {
		ticket string
		status int
	}{
		"with tokens": {present, 200},
		"removed":     {gone.Encode(), 401},
		"nobody":      {"", 401},
	} {
		if w := get(build(cache), "Ticket", tt.ticket); w.Code != tt.status {
			t.Errorf("%s: got %d, want %d", name, w.Code, tt.status)
		}
	}
	store.down.Store(true)
	if w := get(build(newCache(t, store, "https://login.example")), "Ticket", present); w.Code != 503 {
		t.Errorf("the store is down: got %d, want 503: nobody is signed out because of it", w.Code)
	}
}

// The middleware must not cost a request that asks for no token.
func BenchmarkLoadAndSave(b *testing.B) {
	cache := newCache(b, newStore(b), "https://login.example")
	key := tokencache.AccountKey("alice")
	bare := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	wrapped := middleware.LoadAndSave(cache, func(*http.Request) (tokencache.Key, bool) { return key, true })(bare)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	w := httptest.NewRecorder()
	for name, h := range map[string]http.Handler{"bare": bare, "wrapped": wrapped} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}
