package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/providers/session"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A browser signs in, calls an API, and signs out. In an application, a client such
// as xoauth2 stands between the handlers and the authorization server.
func Example() {
	sessions := &scs.SessionManager{ // scs.New, on a store of your choice
		Store: memstore.NewWithCleanupInterval(0), Codec: scs.GobCodec{},
		Lifetime: 12 * time.Hour, IdleTimeout: 20 * time.Minute, Cookie: scs.SessionCookie{Name: "session", Path: "/"},
	}
	provider, err := session.New(sessions, nil) // or &session.Options{Provider: …}
	if err != nil {
		fmt.Println(err)
		return
	}
	keys, err := tokencache.LoadKeys(context.Background(), func(context.Context) ([]byte, error) {
		return tokencache.NewKeyText(), nil // in an application, tokencache.KeyFile
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	cache, err := tokencache.New(provider, tokencache.Namespace{Issuer: "https://login.example", ClientID: "app"},
		&tokencache.Options{Keys: keys, AbsoluteTimeout: sessions.Lifetime})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = cache.Close(context.Background()) }()

	mux := http.NewServeMux()
	mux.HandleFunc("POST /signin", func(w http.ResponseWriter, r *http.Request) {
		reference, _ := provider.Reference(r.Context())
		_, err := provider.SignIn(r.Context(), func(ctx context.Context) (tokencache.Ticket, error) {
			return cache.SignInSession(ctx, reference, exchange) // client.CompleteSignIn
		})
		fmt.Println("signed in:", err)
	})
	mux.HandleFunc("POST /call", func(w http.ResponseWriter, r *http.Request) {
		partition, ok := cache.FromContext(r.Context())
		if !ok {
			fmt.Println("nobody is signed in")
			return
		}
		token, err := partition.Token(r.Context(), tokencache.Request{Scopes: []string{"read"}}, nil) // client.Token
		fmt.Println("a token:", token.Type, errors.Is(err, tokencache.ErrNoTokens))
	})
	mux.HandleFunc("POST /signout", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("signed out:", provider.Destroy(r.Context(), cache, nil)) // client.SignOut in the place of nil
	})
	browse(sessions.LoadAndSave(middleware.LoadAndSave(cache, provider.Key)(mux)),
		"/call", "/signin", "/call", "/signout", "/call")
	// Output:
	// nobody is signed in
	// signed in: <nil>
	// a token: Bearer false
	// signed out: <nil>
	// nobody is signed in
}

// exchange is the authorization server.
func exchange(context.Context) (tokencache.Grant, error) {
	return tokencache.Grant{
		AccessToken: "marker-access", TokenType: "Bearer", RefreshToken: "marker-refresh", Scopes: []string{"read"},
		Expires: time.Now().Add(time.Hour), Account: tokencache.Account{ID: "marker-user"},
	}, nil
}

// browse asks for one page after the other, with the cookies that it is given.
func browse(h http.Handler, pages ...string) {
	var cookies []*http.Cookie
	for _, page := range pages {
		r := httptest.NewRequest(http.MethodPost, page, nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if set := w.Result().Cookies(); len(set) > 0 {
			cookies = set
		}
	}
}
