package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
)

// app is everything that runs: the identity server and the nodes, which share
// the store and the live view.
type app struct {
	log      *slog.Logger
	issuer   *issuer
	store    *store
	cookie   scs.SessionCookie
	url      string // for browsers; "" if each node has its own
	hub      *hub
	outgoing *http.Transport
	library  string        // of the clients: withXOAuth2 or withMSAL
	patience time.Duration // see defaultPatience
	pages    *pages
	nodes    []*node
	failed   chan error // of a node that stopped serving by itself
}

// start builds the application and begins to serve. If it fails, nothing is
// left running.
func start(ctx context.Context, cfg config, log *slog.Logger) (_ *app, err error) {
	a := &app{
		log:      log,
		cookie:   sessionCookie(&cfg),
		url:      cfg.url,
		hub:      newHub(),
		outgoing: &http.Transport{MaxIdleConnsPerHost: 100, IdleConnTimeout: time.Minute},
		library:  cfg.client,
		patience: cfg.patience,
		failed:   make(chan error, cfg.nodes),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close(context.WithoutCancel(ctx)))
		}
	}()
	if a.pages, err = newPages(); err != nil {
		return nil, err
	}
	if a.store, err = openStore(ctx, &cfg, log); err != nil {
		return nil, err
	}
	a.store.keepSwept(cfg.sweepPause, log)            //nolint:contextcheck // ctx is for starting; the sweeps end with close
	if a.issuer, err = openIssuer(&cfg); err != nil { //nolint:contextcheck // what is asked of it later is asked by others
		return nil, err
	}
	if a.issuer.roots != nil {
		a.outgoing.TLSClientConfig = &tls.Config{RootCAs: a.issuer.roots, MinVersion: tls.VersionTLS12}
	}
	for k := range cfg.nodes {
		addr, err := cfg.nodeAddr(k)
		if err != nil {
			return nil, err
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		n, err := newNode(ctx, a, k+1, listener)
		if err != nil {
			return nil, errors.Join(err, listener.Close())
		}
		a.nodes = append(a.nodes, n)
	}
	for _, n := range a.nodes { // only now, as each knows of all
		n.serve()
	}
	return a, nil
}

// announce prints what to open.
func (a *app) announce(out io.Writer) {
	text := "Identity server: " + a.issuer.url + "\n"
	if a.issuer.server != nil && a.issuer.roots != nil {
		text += "Its certificate is its own, so your browser will warn you when you sign in: go on all the same.\n"
	}
	text += "Tokens and sessions: " + a.store.place + "\n"
	for _, n := range a.nodes {
		text += "Open " + n.url + "\n"
	}
	_, _ = io.WriteString(out, text+"Press Ctrl-C to stop.\n") // nobody has to read it
}

// close stops the application in the order in which nothing is cut off: streams
// end, requests finish, the identity server answers what it was asked, refreshes
// are stored, and only then the store goes.
func (a *app) close(ctx context.Context) error {
	a.hub.close()
	var errs []error
	for _, n := range a.nodes {
		errs = append(errs, n.stop(ctx))
	}
	if a.issuer != nil {
		errs = append(errs, a.issuer.close(ctx))
	}
	for _, n := range a.nodes {
		errs = append(errs, n.cache.Close(ctx))
	}
	if a.store != nil {
		errs = append(errs, a.store.close(ctx))
	}
	a.outgoing.CloseIdleConnections()
	return errors.Join(errs...)
}
