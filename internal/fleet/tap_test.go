package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// tap is the HTTP proxy between all processes and the authorization server. What
// reaches it reaches the server, whatever becomes of the process that sent it,
// and so it knows of every sign-in which refresh token is the good one.
type tap struct {
	url  string
	next http.Transport

	mu      sync.Mutex // guards what follows
	signIns map[string]*signIn
	byToken map[string]*signIn // by the digest of any of its refresh tokens
	holds   map[string]*hold   // by process
	count   tapCount
}

// signIn is a family of refresh tokens, as the server knows it.
type signIn struct {
	Current  string         // digest of the refresh token that is good
	LastBy   string         // the process that it was given to
	Answered map[string]int // refreshes, by process
	Refused  map[string]int // by process: invalid_grant
}

// tapCount is to be compared with the server's own.
type tapCount struct{ Refreshes, Answered, Refused int }

// hold stops the next token request of a process on its way.
type hold struct {
	after   bool          // the answer is held, and not the request
	forward bool          // a held request goes on when its process has died
	reached chan struct{} // closed when it is there
	over    chan struct{} // closed when it has gone on, or never will
}

func newTap(t *testing.T) *tap {
	t.Helper()
	p := &tap{signIns: map[string]*signIn{}, byToken: map[string]*signIn{}, holds: map[string]*hold{}}
	p.next.MaxIdleConnsPerHost = 64
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	server := &http.Server{Handler: p, ReadHeaderTimeout: patience}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
		p.next.CloseIdleConnections()
	})
	p.url = "http://" + listener.Addr().String()
	return p
}

// ServeHTTP passes a request on, and the answer back.
func (p *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the process died while it was sending
	}
	process := r.Header.Get(processHeader)
	isToken := strings.HasSuffix(r.URL.Path, "/token")
	var h *hold
	if isToken {
		h = p.takeHold(process)
	}
	if h != nil {
		defer close(h.over)
		if !h.after {
			close(h.reached)
			<-r.Context().Done()
			if !h.forward {
				return
			}
		}
	}
	status, header, answer, err := p.forward(r, body)
	if err != nil {
		http.Error(w, "the server does not answer", http.StatusBadGateway)
		return
	}
	if isToken {
		p.record(process, body, status, answer)
	}
	if h != nil && h.after {
		close(h.reached)
		<-r.Context().Done()
		return
	}
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer) // a process that is gone does not get it
}

// forward makes the request of whoever is gone by now, too.
func (p *tap) forward(r *http.Request, body []byte) (int, http.Header, []byte, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), patience)
	defer cancel()
	out, err := http.NewRequestWithContext(ctx, r.Method, r.URL.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	for _, name := range []string{"Authorization", "Content-Type", "Accept"} {
		if v := r.Header.Get(name); v != "" {
			out.Header.Set(name, v)
		}
	}
	resp, err := p.next.RoundTrip(out)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, answer, err
}

// record notes what the server has answered to a token request.
func (p *tap) record(process string, body []byte, status int, answer []byte) {
	form, err := url.ParseQuery(string(body))
	var a struct {
		RefreshToken string `json:"refresh_token"`
		Error        string `json:"error"`
	}
	if err != nil || json.Unmarshal(answer, &a) != nil {
		return
	}
	given := digest(a.RefreshToken)
	p.mu.Lock()
	defer p.mu.Unlock()
	if form.Get("grant_type") == "authorization_code" && status == http.StatusOK {
		s := &signIn{Current: given, LastBy: process, Answered: map[string]int{}, Refused: map[string]int{}}
		p.signIns[given], p.byToken[given] = s, s
		return
	}
	if form.Get("grant_type") != "refresh_token" {
		return
	}
	p.count.Refreshes++
	s := p.byToken[digest(form.Get("refresh_token"))]
	switch {
	case s == nil: // nothing that was given to anybody
	case status == http.StatusOK:
		p.count.Answered++
		s.Answered[process]++
		s.Current, s.LastBy = given, process
		p.byToken[given] = s
	case a.Error == "invalid_grant":
		p.count.Refused++
		s.Refused[process]++
	}
}

// hold stops the next token request of the process.
func (p *tap) hold(process string, h hold) *hold {
	h.reached, h.over = make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds[process] = &h
	return &h
}

func (p *tap) takeHold(process string) *hold {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.holds[process]
	delete(p.holds, process)
	return h
}

// counted returns the counts of all sign-ins together.
func (p *tap) counted() tapCount {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// of returns what is known of the sign-in that a refresh token belongs to.
func (p *tap) of(token string) (signIn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.byToken[token]
	if !ok {
		return signIn{}, errors.New("the server has not given this refresh token to anybody")
	}
	c := *s
	c.Answered, c.Refused = map[string]int{}, map[string]int{}
	for k, v := range s.Answered {
		c.Answered[k] = v
	}
	for k, v := range s.Refused {
		c.Refused[k] = v
	}
	return c, nil
}

// waitFor waits for a channel to be closed, within the patience of a test.
func waitFor(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("waited in vain for", what)
	}
}
