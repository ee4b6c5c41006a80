package xoauth2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"

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

// A command-line program that signs its user in with the browser, or by a code where
// there is none.
func ExampleClient_SignInWithBrowser() {
	_ = func(ctx context.Context, cache *tokencache.Cache) (context.Context, error) {
		client, err := xoauth2.New(ctx, cache, &xoauth2.Options{Scopes: []string{"profile", "api://tasks/Tasks.Read"}})
		if err != nil {
			return nil, err
		}
		ticket, err := client.SignInWithBrowser(ctx, nil)
		if errors.Is(err, exec.ErrNotFound) { // no browser here: a server, a container
			device, err := client.BeginDevice(ctx, nil)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(os.Stderr, "Open %s and enter %s.\n", device.VerificationURI, device.UserCode)
			if ticket, err = client.CompleteDevice(ctx, device); err != nil {
				return nil, err
			}
		} else if err != nil {
			return nil, err
		}
		return tokencache.NewContext(ctx, cache.Partition(ticket.Key())), nil
	}
}
