// Package coatcheck_test holds the program of the README, so that it compiles and works.
package coatcheck_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func newClient(ctx context.Context, issuer, clientID, secret, redirectURL string) (*tokencache.Cache, *xoauth2.Client, error) {
	provider, err := memory.New(nil) // this process's memory: see Providers
	if err != nil {
		return nil, nil, err
	}
	cache, err := tokencache.New(provider, tokencache.Namespace{Issuer: issuer, ClientID: clientID}, nil)
	if err != nil {
		return nil, nil, err
	}
	client, err := xoauth2.New(ctx, cache, &xoauth2.Options{
		ClientSecret: secret, RedirectURL: redirectURL, Scopes: []string{"api://coatcheck-example/Tasks.Read"},
	})
	return cache, client, err
}

func newApp(cache *tokencache.Cache, client *xoauth2.Client, sessions *scs.SessionManager) (http.Handler, error) {
	web, err := client.Web(sessions, nil) // what goes wrong is answered in plain words: see WebOptions
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /signin", web.SignIn) // ?return_to=/path
	mux.HandleFunc("GET /callback", web.Callback)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		token, err := client.Token(r.Context()) // cached, or refreshed once for everyone who asks
		switch {
		case err == nil:
			fmt.Fprintf(w, "A %s token for %v, from the %s.\n", token.Type, token.Scopes, token.Source)
		case errors.Is(err, tokencache.ErrNoTokens):
			http.Redirect(w, r, "/signin", http.StatusSeeOther)
		case web.StepUp(w, r, err): // the user must consent, or prove more: and comes back to this page
		default: // an outage signs nobody out
			http.Error(w, "Please try again later.", http.StatusServiceUnavailable)
		}
	})
	return sessions.LoadAndSave(middleware.LoadAndSave(cache, middleware.SessionAccount(web.Ticket))(mux)), nil
}

func newSignOut(cache *tokencache.Cache, client *xoauth2.Client, web *xoauth2.Web, sessions *scs.SessionManager) http.Handler {
	signOut := func(w http.ResponseWriter, r *http.Request) {
		err := client.SignOut(r.Context()) // of this account; SignOutEverywhere ends all that it owns
		if err == nil || errors.Is(err, tokencache.ErrNoTokens) {
			err = sessions.Destroy(r.Context())
		}
		if err != nil { // what has failed can be repeated
			http.Error(w, "You may still be signed in. Please try again.", http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther) // or to client.EndSessionURL: at the server too
	}
	user := middleware.LoadAndSave(cache, middleware.SessionAccount(web.Ticket))(http.HandlerFunc(signOut))
	mux := http.NewServeMux()
	mux.Handle("POST /signout", http.NewCrossOriginProtection().Handler(sessions.LoadAndSave(user)))
	mux.Handle("POST /backchannel-logout", middleware.BackChannelLogout(client.BackChannelLogout)) // called by the server
	return mux
}

func newAPI(cache *tokencache.Cache, client *xoauth2.Client, next string) (http.Handler, error) {
	transport, err := client.Transport(&xoauth2.TransportOptions{
		Origins: []string{next}, Scopes: []string{"api://prices/Prices.Read"}, // of the second API
	})
	if err != nil {
		return nil, err
	}
	prices := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	list := func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, next+"/prices", nil)
		if err != nil {
			http.Error(w, "", http.StatusInternalServerError)
			return
		}
		resp, err := prices.Do(req) // with a token on behalf of this request's caller
		switch {
		case err == nil:
			defer resp.Body.Close()
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, io.LimitReader(resp.Body, 1<<20))
		case middleware.Challenge(w, err): // what only the caller's user can mend: 401 or 403
		default:
			http.Error(w, "Please try again later.", http.StatusServiceUnavailable)
		}
	}
	bearer := middleware.RequireBearer(cache, client.Verifier("api://orders"), &middleware.BearerOptions{
		Scopes: []string{"Orders.Read"},
	})
	return bearer(http.HandlerFunc(list)), nil
}

func newDesktopToken(ctx context.Context, issuer, clientID string) (token tokencache.Token, err error) {
	provider, err := file.Open(ctx, &file.Options{Name: "contoso"}) // its key is in the operating system's store
	if err != nil {
		return token, err // it says what to do, to the user
	}
	defer func() { _ = provider.Close(ctx) }()
	cache, err := tokencache.New(provider, tokencache.Namespace{Issuer: issuer, ClientID: clientID}, nil)
	if err != nil {
		return token, err
	}
	defer func() { err = errors.Join(err, cache.Close(ctx)) }() // waits for what is not stored yet
	client, err := xoauth2.New(ctx, cache, &xoauth2.Options{Scopes: []string{"api://coatcheck-example/Tasks.Read"}})
	if err != nil {
		return token, err
	}
	accounts, err := cache.Accounts(ctx)
	if err != nil {
		return token, err
	}
	user := ctx            // nobody's
	if len(accounts) > 0 { // of several, ask for which one
		user = tokencache.NewContext(ctx, cache.Partition(tokencache.AccountKey(accounts[0].ID)))
	}
	if token, err = client.Token(user); !errors.Is(err, tokencache.ErrNoTokens) {
		return token, err
	}
	ticket, err := client.SignInWithBrowser(ctx, nil) // without a browser: BeginDevice, CompleteDevice
	if err != nil {
		return token, err
	}
	return client.Token(tokencache.NewContext(ctx, cache.Partition(ticket.Key())))
}

func newRedisCache(ctx context.Context, addr, keyFile string, namespace tokencache.Namespace) (*tokencache.Cache, error) {
	options := redisprovider.RecommendedOptions() // timeouts that hold no request for long
	options.Addrs = []string{addr}
	provider, err := redisprovider.New(redis.NewUniversalClient(options), nil)
	if err != nil {
		return nil, err
	}
	keys, err := tokencache.LoadKeys(ctx, tokencache.KeyFile(keyFile)) // the same on every machine: see Security
	if err != nil {
		return nil, err
	}
	return tokencache.New(provider, namespace, &tokencache.Options{Keys: keys})
}

func newPostgresCache(ctx context.Context, pool *pgxpool.Pool, keyFile string, namespace tokencache.Namespace) (*tokencache.Cache, error) {
	db := sqlprovider.Postgres(pool, nil)
	if err := db.Migrate(ctx); err != nil { // makes the tables, if they are not there
		return nil, err
	}
	provider, err := sqlprovider.New(ctx, db)
	if err != nil {
		return nil, err
	}
	keys, err := tokencache.LoadKeys(ctx, tokencache.KeyFile(keyFile))
	if err != nil {
		return nil, err
	}
	return tokencache.New(provider, namespace, &tokencache.Options{Keys: keys})
}
