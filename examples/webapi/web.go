package main

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/go-chi/chi/v5"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// web is the web app. People sign in to it, and it calls the first API in their
// names.
type web struct {
	*program
	issuer   *issuer
	sessions *scs.SessionManager
	handlers *xoauth2.Web // sign people in, and step up
	orders   *caller
	stage    *stage
	pages    *pages
}

// ordersTimeout bounds a call of the first API, and is longer than what that gives
// the second one and the identity server.
const ordersTimeout = 15 * time.Second

func newWeb(ctx context.Context, cfg *config, a *app) (*web, error) {
	s := a.servers[0]
	p, err := a.newProgram(ctx, s, cfg, webID, &xoauth2.Options{
		ClientSecret: webSecret,
		RedirectURL:  s.url + "/callback",
		// A name to show, and the first API. What that needs further is its own.
		Scopes: []string{"openid", "profile", "offline_access", ordersScope},
	})
	if err != nil {
		return nil, err
	}
	w := &web{program: p, issuer: a.issuer}
	if w.pages, err = newPages(p.log); err != nil {
		return nil, err
	}
	if w.orders, err = newCaller(p, a, "orders", a.servers[1].url, ordersScope, ordersTimeout); err != nil {
		return nil, err
	}
	w.stage = &stage{base: a.issuer.base, http: &http.Client{Transport: a.outgoing, Timeout: a.patience}}
	w.sessions = newSessions(s.listener.Addr(), w.sessionFailed)
	w.handlers, err = p.client.Web(w.sessions, &xoauth2.WebOptions{Fail: w.fail, Program: isProgram, Timeout: a.patience})
	return w, err
}

// newSessions keeps web sessions in this process. Cookies ignore ports: with the
// port in its name, the cookie is not taken for another program's on this host.
func newSessions(addr net.Addr, failed func(http.ResponseWriter, *http.Request, error)) *scs.SessionManager {
	_, port, _ := net.SplitHostPort(addr.String()) // a listener's
	return &scs.SessionManager{
		Store: memstore.New(), Codec: scs.GobCodec{}, ErrorFunc: failed,
		Lifetime: 24 * time.Hour, HashTokenInStore: true,
		Cookie: scs.SessionCookie{
			Name: "coatcheck_webapi_" + port, Path: "/", Persist: true, HttpOnly: true,
			SameSite: http.SameSiteLaxMode, // the identity server's redirect must bring it
			Secure:   false,                // this is plain HTTP on loopback; set it in a real application
		},
	}
}

func (a *web) routes() http.Handler {
	r := chi.NewRouter()
	r.Use(a.secured)
	r.NotFound(a.notFound)
	r.MethodNotAllowed(a.methodNotAllowed)
	r.Handle("/static/*", a.pages.static())
	// The identity server calls this one, and has neither a cookie nor a session.
	r.Method(http.MethodPost, "/backchannel-logout", middleware.BackChannelLogout(a.client.BackChannelLogout))
	r.Group(func(r chi.Router) {
		// The session first: it knows whose tokens the request is about.
		r.Use(a.sessions.LoadAndSave)
		r.Use(middleware.LoadAndSave(a.cache, middleware.SessionAccount(a.handlers.Ticket)))
		r.Use(a.welcome) // of the stage
		r.With(a.atHome).Get("/", a.home)
		r.With(a.atHome).Get("/signin", a.handlers.SignIn)
		r.Get("/callback", a.handlers.Callback)
		r.Post("/signout", a.signOut)
		r.Get("/orders", a.showOrders)
		r.Get("/api/chain", a.apiChain)
		r.Group(func(r chi.Router) {
			r.Use(middleware.RequireTokens(a.cache, a.fail))
			r.Post("/withdraw", a.onStage(a.withdraw))
			r.Post("/allow", a.onStage(a.allow))
			r.Post("/demand", a.onStage(a.demand))
			r.Post("/revoke", a.onStage(a.revoke))
		})
	})
	return r
}

// secured holds every request and every answer to what a browser needs to keep
// other sites out.
func (a *web) secured(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(a.refuseCrossOrigin))
	// form-action names the identity server, because browsers apply it to the
	// redirect that answers the sign-in form as well.
	policy := "default-src 'none'; style-src 'self'; img-src 'self'; " +
		"form-action 'self' " + a.issuer.origin() + "; base-uri 'none'; frame-ancestors 'none'"
	next = crossOrigin.Handler(next) // its refusals have the headers too
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store") // pages and answers are one user's
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		next.ServeHTTP(w, r)
	})
}

// atHome leads a browser that came by another name of this machine, such as
// localhost, to the address that the identity server sends it back to: cookies
// belong to the name.
func (a *web) atHome(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		own, err := url.Parse(a.server.url)
		if host != "localhost" || err != nil || own.Hostname() == "localhost" {
			next.ServeHTTP(w, r)
			return
		}
		http.Redirect(w, r, a.server.url+r.URL.RequestURI(), http.StatusSeeOther) // #nosec G710 -- to this app, at a path that it serves
	})
}

// isProgram tells programs from browsers by the route: it is answered in JSON.
func isProgram(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/") }

// chain is what one press of the button shows: each call, and what came of it all.
type chain struct {
	Hops   []hop   `json:"hops"`
	Orders []order `json:"orders"`
}

// ask makes the call. All that it takes in the web app is one request in the name
// of its user; the second hop is the API's.
func (a *web) ask(ctx context.Context) (chain, error) {
	var got ordersAnswer
	cost, err := a.orders.do(ctx, http.MethodGet, "/orders", &got)
	if err != nil {
		return chain{}, err
	}
	return chain{
		Hops:   []hop{{API: a.orders.name, seen: got.Token, spent: cost}, got.Next},
		Orders: got.Orders,
	}, nil
}

// showOrders is the page that needs the API. When an API in the chain demands more of
// the user than there is, [web.fail] sends them to the identity server in the middle
// of this request. They come back to this page, and the call is made again.
func (a *web) showOrders(w http.ResponseWriter, r *http.Request) {
	c, err := a.ask(r.Context())
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.show(w, r, c)
}

// apiChain is the same for programs.
func (a *web) apiChain(w http.ResponseWriter, r *http.Request) {
	c, err := a.ask(r.Context())
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, c)
}

// user is who is signed in, for people to read; the zero Account if that is not
// known.
func (a *web) user(ctx context.Context) (tokencache.Account, error) {
	p, ok := a.cache.FromContext(ctx)
	if !ok {
		return tokencache.Account{}, tokencache.ErrNoTokens
	}
	tokens, err := p.Tokens(ctx)
	if err != nil {
		return tokencache.Account{}, err
	}
	for _, account := range tokens.Accounts() {
		return account, nil
	}
	return tokencache.Account{}, nil
}
