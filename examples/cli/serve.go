package main

import (
	"context"
	"errors"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

type serveCmd struct {
	Idle     time.Duration `placeholder:"TIME" help:"End when nothing was asked for so long. By default it never does."`
	Lifetime time.Duration `name:"token-lifetime" default:"10m" placeholder:"TIME" help:"How long access tokens are valid (10m)."`
}

// listening begins the line that the server prints when it can be used.
const listening = "The local server is at "

// Run is the server.
func (c *serveCmd) Run(ctx context.Context, p *program) error {
	l := p.local()
	o := localOptions(c.Lifetime)
	o.TLS = l.tls
	server, err := idp.Listen(l.addr, o) //nolint:contextcheck // what it does by itself ends with Close
	if err != nil {
		return &failure{
			exit: exitOther, code: "local_server", err: err, what: "The local server cannot run: " + trimmed(err.Error()) + ".",
			hint: "Choose another port with --addr 127.0.0.1:PORT, or $COATCHECK_ADDR.",
		}
	}
	if l.tls {
		if err := l.writeCertificate(server.Certificate()); err != nil {
			return errors.Join(err, server.Close(ctx))
		}
	}
	if err := p.print("%s%s. It signs anybody in.", listening, server.URL()); err != nil {
		return errors.Join(err, server.Close(ctx))
	}
	c.wait(ctx, server)
	return server.Close(context.WithoutCancel(ctx))
}

// localOptions are those of the local server.
func localOptions(lifetime time.Duration) *idp.Options {
	return &idp.Options{
		TokenLifetime: lifetime, DeviceInterval: time.Second,
		Clients: []idp.Client{{ID: clientID, Public: true, RedirectURIs: []string{"http://127.0.0.1", "http://localhost"}}},
	}
}

// wait returns when ctx ends, or nobody has asked the server anything for long enough.
func (c *serveCmd) wait(ctx context.Context, server *idp.Server) {
	if c.Idle <= 0 {
		<-ctx.Done()
		return
	}
	for left := c.Idle; left > 0; left = c.Idle - time.Since(server.LastRequest()) {
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return
		}
	}
}
