package testserver

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	dialLimit  = 5 * time.Second
	pumpBuffer = 16 << 10
)

// link is a client's connection to the proxy, and the one to the server that
// belongs to it.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	done   chan struct{} // closed by close

	// The proxy's mutex guards these.
	server   *net.TCPConn // nil until connected
	ended    bool
	silent   bool // half open: both sides are talking to nobody
	answered int  // bytes of answers since the fault was set
}

// run connects to the server and forwards both ways until both sides are closed.
func (l *link) run() {
	if _, ok := l.pass(); !ok {
		return
	}
	if !l.connect() {
		l.reset()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.pump(l.server, l.client, false) })
	wg.Go(func() { l.pump(l.client, l.server, true) })
	wg.Wait()
}

// connect dials the server, and gives up if the link was closed meanwhile.
func (l *link) connect() bool {
	p := l.proxy
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	dialer := net.Dialer{Timeout: dialLimit}
	conn, err := dialer.DialContext(p.ctx, "tcp", target)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.ended {
		_ = conn.Close()
		return false
	}
	l.server = conn.(*net.TCPConn)
	return true
}

// close ends the link, for the client with a reset if so told. The server always
// gets an orderly end, so that it has read what was sent to it. The caller holds
// the proxy's mutex, or is the only one who has the link.
func (l *link) close(reset bool) {
	if l.ended {
		return
	}
	l.ended = true
	close(l.done)
	if reset {
		_ = l.client.SetLinger(0)
	}
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
}

func (l *link) reset() {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.close(true)
}

// pump forwards one direction until its source has ended.
func (l *link) pump(dst, src *net.TCPConn, answers bool) {
	buf := make([]byte, pumpBuffer)
	for {
		n, err := src.Read(buf)
		if !l.forward(dst, buf[:n], answers) {
			return
		}
		if err != nil {
			l.finish(dst, err, answers)
			return
		}
	}
}

// forward passes data on as the fault has it. It returns false when the link is
// closed.
func (l *link) forward(dst *net.TCPConn, data []byte, answers bool) bool {
	for len(data) > 0 {
		f, ok := l.pass()
		if !ok {
			return false
		}
		if f.HalfOpen {
			return true
		}
		n, reset := len(data), false
		if f.Chunk > 0 {
			n = min(n, f.Chunk)
		}
		if answers {
			n, reset = l.proxy.answer(l, n)
		}
		if _, err := dst.Write(data[:n]); err != nil || reset {
			l.reset()
			return false
		}
		data = data[n:]
	}
	return true
}

// finish tells one side that the other has ended, and how.
func (l *link) finish(dst *net.TCPConn, err error, answers bool) {
	f, ok := l.pass()
	switch {
	case !ok:
	case f.HalfOpen && answers:
		// The client is not told. The link ends when the client goes.
	case f.HalfOpen || !errors.Is(err, io.EOF):
		l.reset()
	default:
		_ = dst.CloseWrite()
	}
}

// pass waits while the fault holds this piece of data and returns the fault as
// of then, with HalfOpen only if it is about this link. It returns false when the
// link is closed.
func (l *link) pass() (Fault, bool) {
	delayed := false
	for {
		f, silent, changed := l.proxy.state(l)
		f.HalfOpen = silent
		var timer <-chan time.Time
		switch {
		case silent:
			return f, true
		case f.Hang:
		case !delayed && f.Delay+f.Jitter > 0:
			timer = time.After(f.Delay + jitter(f.Jitter))
		default:
			return f, !l.isDone()
		}
		select {
		case <-l.done:
			return Fault{}, false
		case <-changed:
		case <-timer:
			delayed = true
		}
	}
}

func (l *link) isDone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// jitter is a random part of d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d) //nolint:gosec // nothing has to be unpredictable here
}
