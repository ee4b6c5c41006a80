package xoauth2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/alexedwards/scs/v2"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A web app that signs users in, works with their tokens, and asks for consent when
// it is first needed.
func Example() {
	_ = func(cache *tokencache.Cache, sessions *scs.SessionManager) (http.Handler, error) {
		client, err := xoauth2.New(context.Background(), cache, &xoauth2.Options{
			ClientSecret: "from the environment",
			RedirectURL:  "https://app.example.com/callback",
			Scopes:       []string{"profile", "api://tasks/Tasks.Read"},
		})
		if err != nil {
			return nil, err
		}
		web, err := client.Web(sessions, nil)
		if err != nil {
			return nil, err
		}
		mux := http.NewServeMux()
		mux.HandleFunc("GET /signin", web.SignIn)
		mux.HandleFunc("GET /callback", web.Callback)
		mux.HandleFunc("GET /write", func(w http.ResponseWriter, r *http.Request) {
			token, err := client.Token(r.Context(), "api://tasks/Tasks.Write")
			switch {
			case err == nil:
				fmt.Fprintf(w, "Your token is good until %s.", token.Expires)
			case errors.Is(err, tokencache.ErrNoTokens):
				http.Redirect(w, r, "/signin?return_to=/write", http.StatusSeeOther)
			case web.StepUp(w, r, err): // the user has not consented to it yet, and comes back here
			default: // an outage signs nobody out
				http.Error(w, "Please try again later.", http.StatusServiceUnavailable)
			}
		})
		return sessions.LoadAndSave(middleware.LoadAndSave(cache, middleware.SessionAccount(web.Ticket))(mux)), nil
	}
}
