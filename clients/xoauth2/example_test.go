package xoauth2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// session stands for the application's session store.
type session interface {
	Get(ctx context.Context, key string) string
	Pop(ctx context.Context, key string) string
	Put(ctx context.Context, key, value string)
	RenewID(ctx context.Context) error
}

// A web app that signs users in and works with their tokens.
func Example() {
	_ = func(cache *tokencache.Cache, session session) (http.Handler, error) {
		client, err := xoauth2.New(context.Background(), cache, &xoauth2.Options{
			ClientSecret: "from the environment",
			RedirectURL:  "https://app.example.com/callback",
			Scopes:       []string{"profile", "api://tasks/Tasks.Read"},
		})
		if err != nil {
			return nil, err
		}
		mux := http.NewServeMux()
		mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
			authURL, signIn, _ := client.BeginSignIn(nil)
			session.Put(r.Context(), "sign-in", signIn.Encode())
			http.Redirect(w, r, authURL, http.StatusSeeOther)
		})
		mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
			signIn, _ := xoauth2.ParseSignIn(session.Pop(r.Context(), "sign-in")) // the zero value completes nothing
			ticket, err := client.CompleteSignIn(r.Context(), signIn, r.URL.Query())
			if err != nil || session.RenewID(r.Context()) != nil {
				http.Error(w, "The sign-in failed. Please try again.", http.StatusBadRequest)
				return
			}
			session.Put(r.Context(), "ticket", ticket.Encode())
			http.Redirect(w, r, "/", http.StatusSeeOther)
		})
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
			token, err := client.Token(r.Context())
			switch {
			case errors.Is(err, tokencache.ErrNoTokens):
				http.Redirect(w, r, "/login", http.StatusSeeOther)
			case err != nil: // an outage signs nobody out
				http.Error(w, "Please try again later.", http.StatusServiceUnavailable)
			default:
				fmt.Fprintf(w, "Your token is good until %s.", token.Expires)
			}
		})
		return middleware.LoadAndSave(cache, middleware.SessionAccount(func(ctx context.Context) string {
			return session.Get(ctx, "ticket")
		}))(mux), nil
	}
}
