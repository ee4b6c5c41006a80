package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	// defaultPatience is how long a request waits for the identity server, so
	// that one which hangs is reported in time.
	defaultPatience = 5 * time.Second
	// refreshTimeout bounds how long the identity server may take to answer. It
	// is longer: a refresh goes on when the request that began it has given up,
	// since the server may have rotated the refresh token already.
	refreshTimeout = 20 * time.Second
	// maxConns bounds the connections to each server. Calls in excess wait.
	maxConns = 64
)

// app is everything that runs.
type app struct {
	log      *slog.Logger
	issuer   *issuer
	outgoing *http.Transport
	patience time.Duration
	failed   chan error // of a server that stopped by itself
	servers  []*server  // in the order in which they call each other
	programs []*program

	web    *web
	orders *orders
	prices *prices
}

// program is what each of the three has of its own.
type program struct {
	server *server
	store  *store
	cache  *tokencache.Cache
	client *xoauth2.Client
	log    *slog.Logger
}

// start runs all of it. If it fails, nothing is left running.
func start(ctx context.Context, cfg *config, log *slog.Logger) (_ *app, err error) {
	a := &app{
		log:      log,
		outgoing: &http.Transport{MaxIdleConnsPerHost: maxConns, MaxConnsPerHost: maxConns, IdleConnTimeout: time.Minute},
		patience: cfg.patience,
		failed:   make(chan error, 3),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close(context.WithoutCancel(ctx)))
		}
	}()
	for _, s := range [][2]string{{"web app", cfg.addr}, {"orders API", cfg.ordersAddr}, {"prices API", cfg.pricesAddr}} {
		server, err := listen(ctx, s[0], s[1])
		if err != nil {
			return nil, err
		}
		a.servers = append(a.servers, server)
	}
	if a.issuer, err = openIssuer(cfg, a.servers[0].url); err != nil { //nolint:contextcheck // what is asked of it later is asked by others
		return nil, err
	}
	if a.prices, err = newPrices(ctx, cfg, a); err != nil {
		return nil, err
	}
	if a.orders, err = newOrders(ctx, cfg, a); err != nil {
		return nil, err
	}
	if a.web, err = newWeb(ctx, cfg, a); err != nil {
		return nil, err
	}
	a.prices.server.serve(a.prices.routes(), log, a.failed)
	a.orders.server.serve(a.orders.routes(), log, a.failed)
	a.web.server.serve(a.web.routes(), log, a.failed)
	return a, nil
}

// newProgram makes the cache and the client of one of the three: the same few lines
// for a web app and for an API.
func (a *app) newProgram(ctx context.Context, s *server, cfg *config, clientID string, o *xoauth2.Options) (*program, error) {
	p := &program{server: s, log: a.log.With("program", s.name)}
	var err error
	if p.store, err = openStore(ctx, cfg, p.log); err != nil {
		return nil, err
	}
	a.programs = append(a.programs, p)              // to be closed
	p.cache, err = tokencache.New(p.store.provider, //nolint:contextcheck // ctx is for starting; the cache lives until close
		tokencache.Namespace{Issuer: a.issuer.url, ClientID: clientID},
		&tokencache.Options{Keys: p.store.keys, Events: tokencache.LogEvents(p.log)})
	if err != nil {
		return nil, err
	}
	o.HTTPClient = &http.Client{Transport: a.outgoing, Timeout: refreshTimeout}
	p.client, err = xoauth2.New(ctx, p.cache, o)
	return p, err
}

// announce prints what to open.
func (a *app) announce(out io.Writer) {
	_, _ = fmt.Fprintf(out, "Identity server: %s\nOrders API:      %s/orders\nPrices API:      %s/prices\nTokens are kept %s.\nOpen %s\nPress Ctrl-C to stop.\n",
		a.issuer.url, a.orders.server.url, a.prices.server.url, a.web.store.place, a.web.server.url) // nobody has to read it
}

// close stops everything in the order in which nothing is cut off: requests finish,
// those of callers first, the identity server answers what it was asked, refreshes
// are stored, and only then the stores go.
func (a *app) close(ctx context.Context) error {
	var errs []error
	for _, s := range a.servers {
		errs = append(errs, s.stop(ctx))
	}
	if a.issuer != nil {
		errs = append(errs, a.issuer.close(ctx))
	}
	for _, p := range a.programs {
		if p.cache != nil {
			errs = append(errs, p.cache.Close(ctx))
		}
		errs = append(errs, p.store.close(ctx))
	}
	a.outgoing.CloseIdleConnections()
	return errors.Join(errs...)
}
