package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func nobody(*http.Request) (tokencache.Key, bool) { return tokencache.Key{}, false }

// setting is an outer middleware that sets Cache-Control; nil sets nothing.
func setting(values []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if values != nil {
			w.Header()["Cache-Control"] = slices.Clone(values)
		}
		next.ServeHTTP(w, r)
	})
}

func TestCacheControl(t *testing.T) {
	t.Parallel()
	cache := newCache(t, newStore(t), "https://login.example")
	alice := prepared(tokencache.AccountKey("alice"))
	for name, tt := range map[string]struct {
		resolve middleware.Resolver
		outer   []string
		handler func(http.Header)
		want    []string
	}{
		"nobody":                     {resolve: nobody},
		"nobody, outer":              {resolve: nobody, outer: []string{"public, max-age=60"}, want: []string{"public, max-age=60"}},
		"somebody":                   {resolve: alice, want: []string{"no-store"}},
		"outer lets caches store":    {resolve: alice, outer: []string{"public, max-age=60"}, want: []string{"no-store"}},
		"outer lets browsers store":  {resolve: alice, outer: []string{"private, no-cache"}, want: []string{"no-store"}},
		"outer is empty":             {resolve: alice, outer: []string{""}, want: []string{"no-store"}},
		"outer says no-store":        {resolve: alice, outer: []string{"no-transform,\tNo-Store"}, want: []string{"no-transform,\tNo-Store"}},
		"outer says it in two lines": {resolve: alice, outer: []string{"no-transform", "no-store"}, want: []string{"no-transform", "no-store"}},
		"outer quotes it":            {resolve: alice, outer: []string{`private="a, no-store, b"`}, want: []string{"no-store"}},
		"outer names a parameter":    {resolve: alice, outer: []string{"no-store-at-all, max-age=60"}, want: []string{"no-store"}},
		"outer takes it back":        {resolve: alice, outer: []string{"must-understand, no-store, max-age=60"}, want: []string{"no-store"}},
		"the handler's own":          {resolve: alice, handler: func(h http.Header) { h.Set("Cache-Control", "max-age=60") }, want: []string{"max-age=60"}},
		"the handler adds":           {resolve: alice, handler: func(h http.Header) { h.Add("Cache-Control", "no-transform") }, want: []string{"no-store", "no-transform"}},
		"the handler takes it off":   {resolve: alice, handler: func(h http.Header) { h.Del("Cache-Control") }},
	} {
		h := setting(tt.outer, middleware.LoadAndSave(cache, tt.resolve)(http.HandlerFunc(
			func(w http.ResponseWriter, _ *http.Request) {
				if tt.handler != nil {
					tt.handler(w.Header())
				}
			})))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if got := w.Result().Header["Cache-Control"]; !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// What a handler does to its own header must not reach another response.
func TestCacheControlIsNotShared(t *testing.T) {
	t.Parallel()
	cache := newCache(t, newStore(t), "https://login.example")
	for name, change := range map[string]func(http.Header){
		"Add":     func(h http.Header) { h.Add("Cache-Control", "max-age=60") },
		"Set":     func(h http.Header) { h.Set("Cache-Control", "max-age=60") },
		"append":  func(h http.Header) { h["Cache-Control"] = append(h["Cache-Control"][:0], "max-age=60") },
		"replace": func(h http.Header) { h["Cache-Control"][0] = "max-age=60" },
	} {
		var other http.Header
		around := middleware.LoadAndSave(cache, prepared(tokencache.AccountKey("alice")))
		// The other response is under way while the header of this one is changed.
		inner := around(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { other = w.Header() }))
		around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(httptest.NewRecorder(), r)
			change(w.Header())
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		later := httptest.NewRecorder()
		around(page).ServeHTTP(later, httptest.NewRequest(http.MethodGet, "/", nil))
		for when, h := range map[string]http.Header{"at the same time": other, "later": later.Header()} {
			if got := h["Cache-Control"]; !slices.Equal(got, []string{"no-store"}) {
				t.Errorf("%s: the response %s says %q", name, when, got)
			}
		}
	}
}

// What reaches the browser: scs adds to the field when it sets its cookie, and the
// answers of RequireTokens are somebody's too.
func TestCacheControlOnTheWire(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	one, two := newCache(t, store, "https://one.example"), newCache(t, store, "https://two.example")
	ticket := newAuthority().signIn(t, one, "alice")
	sessions := newSessions()
	otherwise := func(w http.ResponseWriter, r *http.Request, _ error) {
		http.Redirect(w, r, "/signin", http.StatusSeeOther)
	}
	chain := func(next http.Handler) http.Handler {
		// Of the second cache the user has no tokens.
		return sessions.LoadAndSave(middleware.LoadAndSave(one, fromSession(sessions, "one"))(
			middleware.LoadAndSave(two, fromSession(sessions, "two"))(next)))
	}
	mux := http.NewServeMux()
	mux.Handle("/page", chain(page))
	mux.Handle("/changed", chain(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { sessions.Put(r.Context(), "k", "v") })))
	mux.Handle("/required", chain(middleware.RequireTokens(two, otherwise)(page)))
	s := serve(t, mux)
	s.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	cookie := newSession(t, sessions, map[string]string{"one": ticket.Encode(), "two": ticket.Encode()})
	for path, want := range map[string][]string{
		"/page":     {"no-store"},
		"/changed":  {"no-store", `no-cache="Set-Cookie"`},
		"/required": {"no-store"},
	} {
		r := newRequest(t, s, cookie, nil)
		r.URL.Path = path
		if got := do(t, s, r).Header["Cache-Control"]; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
