package xoauth2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	// maxLoopback bounds the connections to one listener that are served at once.
	// Others wait until those of idlers time out.
	maxLoopback = 64
	// maxPorts bounds the ports that are tried until both address families have one.
	maxPorts = 20
)

// errLoopback is about the configuration.
var errLoopback = errors.New("xoauth2: signing in with the browser needs an Options.RedirectURL that is empty, or one of " +
	"http://localhost, http://127.0.0.1 and http://[::1], perhaps with a path, registered at the server; " +
	"leave the port out for a free one, which servers accept for native applications (RFC 8252 §7.3)")

// loopback is a redirect URL of this machine (RFC 8252 §7.3).
type loopback struct {
	host string // localhost, 127.0.0.1 or [::1]
	port string // "" for a free one
	path string // as it comes in a request, "/" at least

	rest string // what is behind the host and the port, as it was configured
	open func(ctx context.Context, ip, port string) (net.Listener, error)
}

// parseLoopback reads Options.RedirectURL.
func parseLoopback(text string) (*loopback, error) {
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.RawQuery != "" || strings.ContainsAny(text, "?#\\") {
		return nil, errLoopback
	}
	l := &loopback{host: u.Host, port: u.Port(), path: u.EscapedPath(), open: listenAt}
	if l.port != "" {
		l.host = strings.TrimSuffix(u.Host, ":"+l.port)
		if n, err := strconv.ParseUint(l.port, 10, 16); err != nil || n == 0 || l.port != strconv.FormatUint(n, 10) {
			return nil, errLoopback
		}
	}
	// What the server sends the browser to has to be what was registered, letter for
	// letter but for the port.
	rest, ok := strings.CutPrefix(text, "http://"+u.Host)
	if !ok || !slices.Contains([]string{"localhost", "127.0.0.1", "[::1]"}, l.host) {
		return nil, errLoopback
	}
	// A browser would ask for another path.
	if steps := strings.Split(u.Path, "/"); slices.Contains(steps, ".") || slices.Contains(steps, "..") {
		return nil, errLoopback
	}
	if l.path == "" {
		l.path = "/"
	}
	l.rest = rest
	return l, nil
}

// url is the redirect URL with its port.
func (l *loopback) url() string { return "http://" + l.host + ":" + l.port + l.rest }

// isHost tells whether a Host header is that of the redirect URL. A page that has
// pointed the name of its own host to this machine (DNS rebinding) sends that name.
func (l *loopback) isHost(host string) bool {
	return strings.EqualFold(host, l.host+":"+l.port) || l.port == "80" && strings.EqualFold(host, l.host)
}

// listen opens the port, or a free one, which it notes. Where the host is localhost it
// does so in both address families: the browser chooses one, and on the other
// nobody else should answer in this program's name.
func (l *loopback) listen(ctx context.Context) ([]net.Listener, error) {
	if l.port != "" {
		list, err := l.listenOn(ctx, l.port)
		if err != nil {
			return nil, fmt.Errorf("xoauth2: listening for the browser on port %s, as Options.RedirectURL has it "+
				"(is another program using it?): %w", l.port, err)
		}
		return list, nil
	}
	var err error
	for range maxPorts {
		var list []net.Listener
		if list, err = l.listenOn(ctx, "0"); err == nil {
			_, l.port, err = net.SplitHostPort(list[0].Addr().String())
			return list, err
		}
	}
	return nil, fmt.Errorf("xoauth2: listening for the browser: %w", err)
}

func (l *loopback) listenOn(ctx context.Context, port string) ([]net.Listener, error) {
	if l.host == "[::1]" {
		only, err := l.open(ctx, "::1", port)
		return []net.Listener{only}, err
	}
	first, err := l.open(ctx, "127.0.0.1", port)
	if err != nil || l.host != "localhost" {
		return []net.Listener{first}, err
	}
	_, port, err = net.SplitHostPort(first.Addr().String())
	if err != nil {
		return nil, errors.Join(err, first.Close())
	}
	second, err := l.open(ctx, "::1", port)
	switch {
	case err == nil:
		return []net.Listener{first, second}, nil
	case l.hasIPv6(ctx): // somebody else has the port
		return nil, errors.Join(err, first.Close())
	}
	return []net.Listener{first}, nil
}

func (l *loopback) hasIPv6(ctx context.Context) bool {
	probe, err := l.open(ctx, "::1", "0")
	if err != nil {
		return false
	}
	_ = probe.Close() // nobody has used it
	return true
}

func listenAt(ctx context.Context, ip, port string) (net.Listener, error) {
	var config net.ListenConfig
	inner, err := config.Listen(ctx, "tcp", net.JoinHostPort(ip, port))
	if err != nil {
		return nil, err
	}
	closed := make(chan struct{})
	return &limited{
		Listener: inner, slots: make(chan struct{}, maxLoopback),
		closed: closed, stop: sync.OnceFunc(func() { close(closed) }),
	}, nil
}

// limited is a listener of at most maxLoopback connections at once.
type limited struct {
	net.Listener
	slots  chan struct{} // holds one for each connection
	closed chan struct{}
	stop   func()
}

// Accept waits for a slot, and then for a connection.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotted{conn, sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limited) Close() error {
	l.stop()
	return l.Listener.Close()
}

// slotted is a connection that frees its slot when it ends.
type slotted struct {
	net.Conn
	free func()
}

func (s *slotted) Close() error {
	defer s.free()
	return s.Conn.Close()
}
