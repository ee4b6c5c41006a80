package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/go-chi/chi/v5"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// node is one instance of the application. Nodes behave like machines: each
// has its own Cache, and they share the store.
type node struct {
	*app
	number   int    // from 1
	url      string // that browsers use, without a slash at the end
	cache    *tokencache.Cache
	client   *xoauth2.Client
	sessions *scs.SessionManager
	web      *xoauth2.Web
	// logEvent writes the events of the cache to the log.
	logEvent func(context.Context, tokencache.Event)
	api      *http.Client  // calls the API with the user's token
	tasks    *http.Client  // the same, for writing
	plain    *http.Client  // everything else
	calls    chan struct{} // holds one for each call of the API that is under way
	server   *http.Server

	listener net.Listener
	served   chan struct{} // closed when the server has stopped; nil before serve
}

const (
	// defaultPatience is how long a request waits for the identity server or the
	// API, so that a server which hangs is reported in time.
	defaultPatience = 8 * time.Second
	// refreshTimeout bounds how long the identity server may take to answer. It
	// is longer: a refresh goes on when the request that began it has given up,
	// since the server may have rotated the refresh token already.
	refreshTimeout = 20 * time.Second
	apiTimeout     = 5 * time.Second // with a token that is refused and replaced in between
	requestTimeout = 30 * time.Second
	maxHeaderBytes = 32 << 10 // more, by a few KiB, is answered with 431
	maxBodyBytes   = 64 << 10
	maxCalls       = 64               // of the API at once
	maxWait        = 20 * time.Second // for one of them
)

// newNode puts together what an application needs: a cache over the provider, a
// client of the authorization server, and the router.
func newNode(ctx context.Context, a *app, number int, listener net.Listener) (*node, error) {
	n := &node{app: a, number: number, url: a.url, listener: listener, calls: make(chan struct{}, maxCalls)}
	if n.url == "" {
		n.url = "http://" + listener.Addr().String()
	}
	n.sessions = newSessions(a.store.sessions, a.cookie, n.sessionFailed)
	n.logEvent = tokencache.LogEvents(a.log.With("node", number))
	n.plain = &http.Client{Transport: a.outgoing, Timeout: a.patience}
	var err error
	n.cache, err = tokencache.New(a.store.provider, //nolint:contextcheck // ctx is for starting; the cache lives until close
		tokencache.Namespace{Issuer: a.issuer.url, ClientID: clientID},
		&tokencache.Options{Keys: a.store.keys, Events: n.observe})
	if err != nil {
		return nil, err
	}
	if n.client, err = n.newClient(ctx); err != nil {
		return nil, errors.Join(err, n.cache.Close(ctx))
	}
	n.web, err = n.client.Web(n.sessions, &xoauth2.WebOptions{Fail: n.fail, Program: wantsJSON, Timeout: a.patience})
	if err != nil {
		return nil, errors.Join(err, n.cache.Close(ctx))
	}
	if n.api, err = n.caller(apiScope); err != nil {
		return nil, errors.Join(err, n.cache.Close(ctx))
	}
	if n.tasks, err = n.caller(writeScope); err != nil {
		return nil, errors.Join(err, n.cache.Close(ctx))
	}
	n.server = &http.Server{
		Handler:           n.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	return n, nil
}

// caller returns a client that calls the API with the user's token for the scope.
func (n *node) caller(scope string) (*http.Client, error) {
	transport, err := n.client.Transport(&xoauth2.TransportOptions{
		Origins: []string{n.issuer.origin()},
		Scopes:  []string{scope},
		Base:    n.outgoing,
	})
	return &http.Client{Transport: transport, Timeout: apiTimeout}, err
}

func (n *node) routes() http.Handler {
	r := chi.NewRouter()
	r.Use(n.secured)
	r.NotFound(n.notFound)
	r.MethodNotAllowed(n.methodNotAllowed)
	r.Get("/healthz", n.healthz)
	r.Handle("/static/*", n.pages.static())
	r.Group(func(r chi.Router) {
		// The session first: it knows whose tokens the request is about.
		r.Use(sessionWriters, n.sessions.LoadAndSave)
		r.Use(middleware.LoadAndSave(n.cache, middleware.SessionAccount(n.web.Ticket)))
		r.With(quietly, n.atHome).Get("/", n.home)
		r.With(n.atHome).Get("/signin", n.web.SignIn)
		r.Get("/callback", n.web.Callback)
		r.Post("/signout", n.signOut)
		// No RequireTokens here: asking for a token finds out the same.
		r.Get("/api/me", n.apiMe)
		r.Post("/call", n.formCall)
		r.Get("/task", n.task)
		r.Post("/task", n.writeTask)
		r.Group(func(r chi.Router) {
			r.Use(quietly, middleware.RequireTokens(n.cache, n.fail))
			r.Get("/events", n.events)
			r.Get("/tokens", n.tokens)
			// For programs: JSON.
			r.Get("/api/cache", n.apiCache)
			r.Post("/api/expire", n.apiDo(n.expire))
			r.Post("/api/revoke", n.apiDo(n.revoke))
			// For the dashboard's buttons: redirects back to it.
			r.Post("/expire", n.formDo(n.expire, "Expired. The next call has to ask the identity server."))
			r.Post("/revoke", n.formDo(n.revoke, "Revoked at the identity server, which did not tell this app. Call the API to find out."))
		})
	})
	return r
}

// secured holds every request and every answer to what a browser needs to keep
// other sites out.
func (n *node) secured(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(n.refuseCrossOrigin))
	// form-action names the identity server, because browsers apply it to the
	// redirect that answers the sign-in form as well.
	policy := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self' " + n.issuer.origin() + "; base-uri 'none'; frame-ancestors 'none'"
	return crossOrigin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store") // pages and answers are one user's
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		next.ServeHTTP(w, r)
	}))
}

func (n *node) serve() {
	n.served = make(chan struct{})
	go func() {
		defer close(n.served)
		if err := n.server.Serve(n.listener); !errors.Is(err, http.ErrServerClosed) {
			n.failed <- fmt.Errorf("node %d: %w", n.number, err)
		}
	}()
}

// stop lets requests finish.
func (n *node) stop(ctx context.Context) error {
	if n.served == nil {
		return n.listener.Close()
	}
	// A client that never finishes its request must not take the time that
	// refreshes need.
	requests, cancel := context.WithTimeout(ctx, closeTimeout/2)
	defer cancel()
	var err error
	if n.server.Shutdown(requests) != nil {
		err = n.server.Close()
	}
	<-n.served
	return err
}
