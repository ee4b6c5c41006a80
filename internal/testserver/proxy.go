package testserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy that misbehaves as told, made by [StartProxy] or
// [NewProxy]. Its methods are safe for concurrent use.
type Proxy struct {
	addr   string
	ctx    context.Context // ends when the proxy closes
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex   // guards what follows, and the marked fields of links
	listener net.Listener // nil while cut
	target   string
	fault    Fault
	changed  chan struct{} // closed by the next change of fault
	links    map[*link]struct{}
	closed   bool
}

// StartProxy starts a proxy in front of a server at a TCP address. The server
// need not be up: while it is not, connections are accepted and reset. The caller
// closes the proxy.
func StartProxy(target string) (*Proxy, error) {
	listener, port, err := listenFree()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{
		addr: address(port), ctx: ctx, cancel: cancel, target: target,
		changed: make(chan struct{}), links: make(map[*link]struct{}),
	}
	p.serve(listener)
	return p, nil
}

// NewProxy is [StartProxy] for a test, which closes the proxy when it ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	return forTest(t, func() (*Proxy, error) { return StartProxy(target) })
}

// Addr is the address of the proxy, 127.0.0.1:port. It stays the same.
func (p *Proxy) Addr() string { return p.addr }

// Set replaces the fault, for connections that exist and those to come. It
// panics if it cannot open its port again after a cut, because another program
// has taken it.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.setLocked(f)
	for l := range p.links {
		l.answered = 0
		l.silent = l.silent || f.HalfOpen
		if f.Cut {
			l.close(false)
		}
	}
	switch {
	case f.Cut && p.listener != nil:
		_ = p.listener.Close()
		p.listener = nil
	case !f.Cut && p.listener == nil:
		p.reopen()
	}
}

// Heal is Set(Fault{}).
func (p *Proxy) Heal() { p.Set(Fault{}) }

// Retarget sends the connections to come to another address. Those that exist
// stay where they are.
func (p *Proxy) Retarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Close closes the port and all connections. Calling it again does nothing.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.cancel()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	for l := range p.links {
		l.close(false)
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}

func (p *Proxy) setLocked(f Fault) {
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
}

// reopen listens on the proxy's port again.
func (p *Proxy) reopen() {
	ctx, cancel := context.WithTimeout(p.ctx, startLimit)
	defer cancel()
	err := until(ctx, func() error {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", p.addr)
		if err == nil {
			p.serve(listener)
		}
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("testserver: the proxy cannot open its port again: %v", err))
	}
}

// serve accepts connections until the listener is closed.
func (p *Proxy) serve(listener net.Listener) {
	p.listener = listener
	p.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(time.Millisecond) // out of file descriptors, say
				continue
			}
			p.accept(listener, conn.(*net.TCPConn))
		}
	})
}

// accept begins a link, unless the proxy was cut after the connection was made.
func (p *Proxy) accept(from net.Listener, client *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &link{proxy: p, client: client, done: make(chan struct{})}
	if p.listener != from {
		l.close(true)
		return
	}
	p.links[l] = struct{}{}
	p.wg.Go(func() {
		l.run()
		p.mu.Lock()
		defer p.mu.Unlock()
		l.close(false)
		delete(p.links, l)
	})
}

// state is the fault as of now, and what tells that it has changed.
func (p *Proxy) state(l *link) (f Fault, silent bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault, l.silent, p.changed
}

// answer tells how many of n bytes of an answer may go to the client, and whether
// the link is to be reset after them. It counts both.
func (p *Proxy) answer(l *link, n int) (pass int, reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch f := p.fault; {
	case f.DropReplies:
		n, reset = 0, true
	case f.ResetAfter > 0 && l.answered+n >= f.ResetAfter:
		n, reset = f.ResetAfter-l.answered, true
	}
	l.answered += n
	if reset && p.fault.Times > 0 {
		if p.fault.Times--; p.fault.Times == 0 {
			p.setLocked(Fault{})
		}
	}
	return n, reset
}
