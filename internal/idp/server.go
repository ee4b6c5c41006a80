package idp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	closeGrace    = 5 * time.Second
	exchangeLimit = 2 * time.Minute // longer than the longest fault delay
)

// Server is a running server, made by [Listen]. Its methods are safe for
// concurrent use.
type Server struct {
	opts    Options
	url     string
	clients map[string]*Client
	plain   *realm
	entra   *realm
	keys    *keyring
	pages   *pages
	store   *store
	faults  *faults

	certificate *x509.Certificate // nil without TLS
	last        atomic.Int64      // when it was last asked for something, in Unix nanoseconds

	http       *http.Server
	deliveries *http.Client
	ctx        context.Context // of what the server does by itself; ends when Close begins
	cancel     context.CancelFunc
	served     chan struct{} // closed when the listener's goroutine has ended
	closing    chan struct{} // closed when Close begins: ends faults that wait
	closeOnce  sync.Once
}

// Listen starts a server on a TCP address such as "127.0.0.1:8090", or
// "127.0.0.1:0" for a free port, and serves it in a goroutine until
// [Server.Close]. A nil o means all defaults.
//
// The host must be a loopback IP address or localhost. Any other address is
// refused, because everybody who can reach the server can be any user.
func Listen(addr string, o *Options) (*Server, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	clients, err := index(opts.Clients)
	if err != nil {
		return nil, err
	}
	keys, err := newKeyring()
	if err != nil {
		return nil, err
	}
	pages, err := newPages()
	if err != nil {
		return nil, err
	}
	listener, host, err := listenLoopback(addr)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: opts, clients: clients, keys: keys, pages: pages, store: newStore(), faults: newFaults(),
		deliveries: newDeliveries(opts.BackChannelRootCAs), served: make(chan struct{}), closing: make(chan struct{}),
	}
	s.store.askConsent, s.store.consented = opts.Consent, permissions("", opts.Consented)
	if err := s.serve(listener, host); err != nil {
		_ = listener.Close() // nothing was accepted yet
		return nil, err
	}
	return s, nil
}

// serve answers on a listener from now on, in a goroutine that ends with Close.
func (s *Server) serve(listener *net.TCPListener, host string) error {
	address := listener.Addr().(*net.TCPAddr)
	s.http = &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       exchangeLimit,
		WriteTimeout:      exchangeLimit,
		IdleTimeout:       exchangeLimit,
		MaxHeaderBytes:    maxFormBytes,
		ErrorLog:          log.New(errorLog{}, "", log.LstdFlags),
	}
	scheme := "http"
	if s.opts.TLS {
		scheme = "https"
		var err error
		if s.http.TLSConfig, s.certificate, err = newCertificate(address.IP); err != nil {
			return err
		}
	}
	s.url = scheme + "://" + net.JoinHostPort(host, strconv.Itoa(address.Port))
	s.plain, s.entra = newRealms(s.url, s.opts.Tenant)
	s.http.Handler = s.noted(s.routes())
	s.last.Store(time.Now().UnixNano())
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(s.served)
		if s.opts.TLS {
			_ = s.http.ServeTLS(listener, "", "") // as below
		} else {
			_ = s.http.Serve(listener) // always http.ErrServerClosed, after Close
		}
	}()
	return nil
}

// listenLoopback checks the address before it binds it: a socket that is open
// to the network, even for a moment, is one too many.
func listenLoopback(addr string) (*net.TCPListener, string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, "", fmt.Errorf("idp: listen address: %w", err)
	}
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, "", fmt.Errorf("idp: listen address: %w", err)
	}
	if host == "" || !tcp.IP.IsLoopback() {
		return nil, "", fmt.Errorf("idp: refusing to listen on %q: this server signs anybody in, so it listens on loopback addresses only, such as 127.0.0.1", addr)
	}
	listener, err := net.ListenTCP("tcp", tcp)
	if err != nil {
		return nil, "", fmt.Errorf("idp: %w", err)
	}
	return listener, host, nil
}

// URL is the base URL, without a slash at the end, and the plain OpenID Connect
// issuer.
func (s *Server) URL() string { return s.url }

// TenantURL is the issuer that resembles Entra ID: URL()/{tenant}/v2.0. Its
// authority in MSAL's sense is the same without /v2.0. MSAL accepts https
// authorities only, so that it needs [Options.TLS].
func (s *Server) TenantURL() string { return s.entra.issuer }

// LastRequest is when the server was last asked for anything, or else when it was
// started: for a program that ends when nobody uses it any more.
func (s *Server) LastRequest() time.Time { return time.Unix(0, s.last.Load()) }

// Stats returns the counters as of now.
func (s *Server) Stats() Stats { return s.store.snapshot() }

// RevokeUser ends every family of a user, as an administrator would, and
// returns how many there were. It ends the sessions of the user's browsers too:
// every client that has a [Client.BackChannelLogoutURI] and got an ID token in one
// gets a logout token about all sessions, with sub only, or one for each with sub
// and sid if it requires that. RevokeUser returns when the clients have answered,
// or after 5 seconds. The user may sign in again. The error is that of a name that
// cannot be a user's.
func (s *Server) RevokeUser(name string) (int, error) {
	u, err := parseUser(name)
	if err != nil {
		return 0, fmt.Errorf("idp: %w", err)
	}
	n := s.store.revokeUser(u)
	s.notify(s.withoutSID(noticesOf(s.store.endLogins(u))))
	return n, nil
}

// RequireInteraction makes refreshes and password grants of a user fail with
// interaction_required and the given claims, a JSON object, until the user signs in
// again through an authorization request with a claims parameter (OpenID Connect
// Core §5.5) that asks for more than a client capability.
// Tokens already issued stay good, and the refresh token is not spent.
func (s *Server) RequireInteraction(name, claims string) error {
	u, err := parseUser(name)
	if err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	if !isJSONObject(claims) {
		return errors.New("idp: claims must be a JSON object")
	}
	s.store.demand(u, claims)
	return nil
}

// Close stops the server. Requests that a fault holds are answered at once,
// others may finish while ctx allows it, but at most 5 seconds; what is left is
// cut off. Close returns when the server has stopped. Calling it again is
// harmless.
func (s *Server) Close(ctx context.Context) error {
	s.closeOnce.Do(func() { close(s.closing); s.cancel() })
	ctx, cancel := context.WithTimeout(ctx, closeGrace)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	<-s.served
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("idp: close: %w", err)
	}
	return nil
}
