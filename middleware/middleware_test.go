package middleware_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

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

func TestNoTokenNoCall(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	ticket := signIn(t, newCache(t, store, "https://login.example"), "alice").Encode()
	h := middleware.LoadAndSave(newCache(t, store, "https://login.example"), ticketHeader("Ticket"))(page)
	loads, saves := store.loads.Load(), store.saves.Load()
	get(h, "Ticket", ticket)
	if loads, saves = store.loads.Load()-loads, store.saves.Load()-saves; loads+saves != 0 {
		t.Errorf("a request that asked for no token made %d reads and %d saves", loads, saves)
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
