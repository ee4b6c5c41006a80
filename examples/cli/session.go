package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// apiScope is what the local server's tokens are for.
const apiScope = idp.DefaultAudience + "/Tasks.Read"

// session is one command's use of the token cache. The client, which has to ask the
// server where its endpoints are, is made when something needs it: what is in the cache
// is there without a network.
type session struct {
	*program
	provider *file.Provider
	cache    *tokencache.Cache
	client   *xoauth2.Client
}

// open opens the token cache.
func (p *program) open(ctx context.Context) (*session, error) {
	provider, err := file.Open(ctx, p.storage())
	if err != nil {
		return nil, err
	}
	ns := tokencache.Namespace{Issuer: p.Issuer, ClientID: p.ClientID}
	if p.Issuer == "" {
		ns = tokencache.Namespace{Issuer: p.local().issuer(), ClientID: clientID}
	}
	cache, err := tokencache.New(provider, ns, nil) //nolint:contextcheck // what it does by itself ends with Close
	if err != nil {
		return nil, errors.Join(err, provider.Close(ctx))
	}
	return &session{program: p, provider: provider, cache: cache}, nil
}

// storage is where the tokens are, and what protects them.
func (p *program) storage() *file.Options {
	o := &file.Options{Name: p.Name, Dir: p.Dir, AllowUnencryptedStorage: p.Plain, Log: p.ui.log()}
	switch text := os.Getenv("COATCHECK_PASSPHRASE"); {
	case p.PassFile != "":
		read := tokencache.KeyFile(p.PassFile) // refuses a file that others may read
		o.Passphrase = func(ctx context.Context) ([]byte, error) {
			b, err := read(ctx)
			if err != nil {
				return nil, &failure{
					exit: exitCache, code: "passphrase", err: err, what: "The passphrase cannot be read: " + trimmed(err.Error()) + ".",
					hint: "It is in a file of your own with the mode 0600.",
				}
			}
			return []byte(strings.TrimRight(string(b), "\r\n")), nil
		}
	case text != "":
		o.Passphrase = func(context.Context) ([]byte, error) { return []byte(text), nil }
	}
	return o
}

// close waits for what is still being stored.
func (s *session) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	return errors.Join(s.cache.Close(ctx), s.provider.Close(ctx))
}

// with opens the cache for a command, and closes it.
func (p *program) with(ctx context.Context, do func(*session) error) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.close(ctx))
}

// connect makes the client, unless there is one.
func (s *session) connect(ctx context.Context) error {
	if s.client != nil {
		return nil
	}
	var hc *http.Client
	if s.Issuer == "" {
		if err := s.local().probe(ctx); err != nil {
			return err
		}
		var err error
		if hc, err = s.local().httpClient(); err != nil {
			return err
		}
	}
	scopes := append([]string{"profile"}, s.scopes()...)
	var err error
	if s.Client == "msal" {
		s.client, err = msal.New(ctx, s.cache, &msal.Options{Scopes: scopes, HTTPClient: hc, DisableInstanceDiscovery: s.Issuer == ""})
	} else {
		s.client, err = xoauth2.New(ctx, s.cache, &xoauth2.Options{Scopes: scopes, HTTPClient: hc})
	}
	return err
}

// scopes are those that the user has named, or else those of the local server's API.
// Without any, a server grants what it likes.
func (s *session) scopes() []string {
	switch {
	case len(s.Scope) > 0:
		return s.Scope
	case s.Issuer == "":
		return []string{apiScope}
	}
	return nil
}

// request is what a token is wanted for.
func (s *session) request() tokencache.Request {
	scopes := s.scopes()
	if len(scopes) == 0 && s.Client == "msal" {
		scopes = []string{"profile"} // MSAL requests nothing without a scope
	}
	return tokencache.Request{Scopes: scopes}
}

// token returns an access token of an account: from the cache if there is a good one, so
// that it works without the server.
func (s *session) token(ctx context.Context, p *tokencache.Partition, req tokencache.Request) (tokencache.Token, error) {
	token, err := p.Token(ctx, req, &lateServer{s})
	if errors.Is(err, errConnected) {
		return s.client.Acquire(tokencache.NewContext(ctx, p), req)
	}
	return token, err
}

// lateServer is the server for a look into the cache. When the cache turns out to need
// it, it makes the client, and ends the look; if there is no server, the cache answers
// with what it has, as long as that is valid.
type lateServer struct{ *session }

var errConnected = errors.New("the client is there now")

func (s *lateServer) Refresh(ctx context.Context, _ tokencache.Secret, _ tokencache.Request) (tokencache.Grant, error) {
	err := s.connect(ctx)
	switch {
	case err == nil:
		err = errConnected
	case errors.Is(err, errNotRunning):
		err = &tokencache.ServerError{Err: err}
	}
	return tokencache.Grant{}, err
}

func (s *lateServer) Revoke(context.Context, tokencache.Secret) error { return errors.ErrUnsupported }
