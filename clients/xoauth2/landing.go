package xoauth2

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// landingTimeout is for the head of a request, and for writing a page.
	landingTimeout = 5 * time.Second
	maxLandingHead = 64 << 10 // bytes; cookies of other programs on localhost come along
	maxLandingURL  = 4 * maxParameter
)

// landing serves the redirect URL of one sign-in. Anybody on this machine can reach
// it, and so can every page that the user's browser shows. Only what proves by its
// state that it comes from this sign-in counts.
type landing struct {
	at     *loopback
	signIn SignIn
	server *http.Server

	answers chan url.Values // the first that counts
	done    chan struct{}   // closed once there is a page
	page    page            // valid then

	serving sync.WaitGroup // the listeners
	mu      sync.Mutex
	first   url.Values     // the answer that counts, once it is here
	over    bool           // nothing joins pages any more
	pages   sync.WaitGroup // requests that wait for the page
}

// land serves what is listened to. The caller has to call finish and close.
func land(at *loopback, listeners []net.Listener, s SignIn) *landing {
	l := &landing{at: at, signIn: s, answers: make(chan url.Values, 1), done: make(chan struct{})}
	l.server = &http.Server{
		Handler: l,
		// There is no ReadTimeout: it would end requests that wait for the page.
		ReadHeaderTimeout: landingTimeout,
		MaxHeaderBytes:    maxLandingHead,
		ErrorLog:          log.New(io.Discard, "", 0), // what strangers send is not for the user's terminal

		DisableGeneralOptionsHandler: true,
	}
	l.server.SetKeepAlivesEnabled(false)
	for _, listener := range listeners {
		l.serving.Go(func() { _ = l.server.Serve(listener) }) // until close
	}
	return l
}

// wait returns the user's answer. opened brings the error of the browser, or nil.
func (l *landing) wait(ctx context.Context, opened <-chan error, expired <-chan time.Time) (url.Values, error) {
	for {
		select {
		case answer := <-l.answers:
			return answer, nil
		case err := <-opened:
			if err != nil && len(l.answers) == 0 {
				return nil, err
			}
			opened = nil
		case <-ctx.Done():
			return nil, fmt.Errorf("xoauth2: waiting for the user to sign in: %w", ctx.Err())
		case <-expired:
			return nil, badCallback("nobody has signed in for 15 minutes")
		}
	}
}

// finish shows what has become of the sign-in to those who wait for it, and returns
// when it is written.
func (l *landing) finish(err error) {
	l.page = outcome(err)
	close(l.done)
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.pages.Wait()
}

// close ends the listeners and all connections.
func (l *landing) close() {
	_ = l.server.Close() // a listener that cannot be closed is closed
	l.serving.Wait()
}

// ServeHTTP takes the user's answer, and turns others away.
func (l *landing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, status := l.read(r)
	if status != 0 {
		notAnswer(status).write(w)
		return
	}
	if !l.counts(answer) {
		notAnswer(http.StatusConflict).write(w)
		return
	}
	l.mu.Lock()
	if !l.over {
		l.pages.Add(1)
		defer l.pages.Done()
	}
	l.mu.Unlock()
	select {
	case <-l.done:
		l.page.write(w)
	case <-r.Context().Done(): // nobody looks any more
	}
}

// counts tells whether the answer is the first, or the first once more, as of a page
// that is loaded twice. Another tab may bring another one, of another user: what becomes
// of the first is not for it.
func (l *landing) counts(answer url.Values) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = answer
		l.answers <- answer // there is room for one
	}
	return answer.Get("code") == l.first.Get("code") && answer.Get("error") == l.first.Get("error")
}

// read returns the parameters of the user's answer, or the status for what is none.
func (l *landing) read(r *http.Request) (url.Values, int) {
	switch {
	case !l.at.isHost(r.Host):
		return nil, http.StatusMisdirectedRequest
	case r.URL.EscapedPath() != l.at.path:
		return nil, http.StatusNotFound
	case r.Method != http.MethodGet:
		return nil, http.StatusMethodNotAllowed
	case r.ContentLength != 0:
		return nil, http.StatusBadRequest
	case len(r.URL.RawQuery) > maxLandingURL:
		return nil, http.StatusRequestURITooLong
	}
	answer, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || l.signIn.proven(answer) != nil {
		return nil, http.StatusBadRequest
	}
	return answer, 0
}
