package middleware_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// events is a stream of server-sent events (WHATWG HTML §9.2). The handler sends
// each one only when the client asks for it, which is after it has read the
// one before: an event that is not flushed is an event that never comes.
type events struct {
	wanted chan struct{}
	read   *bufio.Reader
}

// eventStream makes a handler whose events have the text that next returns.
func eventStream(t testing.TB, wanted chan struct{}, next func(n int, r *http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		for n := 1; ; n++ {
			select {
			case _, more := <-wanted:
				if !more {
					return
				}
			case <-r.Context().Done():
				return
			}
			fmt.Fprintf(w, "data: %s\n\n", next(n, r))
			if err := control.Flush(); err != nil {
				t.Errorf("Flush: %v", err)
				return
			}
		}
	})
}

// subscribe opens the stream; the first event is on its way then.
func subscribe(t testing.TB, s *httptest.Server, r *http.Request, wanted chan struct{}) (*events, http.Header) {
	t.Helper()
	wanted <- struct{}{}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &events{wanted, bufio.NewReader(resp.Body)}, resp.Header
}

// event reads the event that was asked for.
func (e *events) event(t testing.TB) string {
	t.Helper()
	line, err := e.read.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.read.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	text, _ := strings.CutPrefix(strings.TrimSpace(line), "data: ")
	return text
}

// Tokens are used, dropped and refreshed in the middle of a stream.
func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	cache, server := newCache(t, store, "https://login.example"), newAuthority()
	ticket := server.signIn(t, cache, "alice")
	for _, site := range sites(t, cache, ticket) {
		scope, wanted := "read."+site.name, make(chan struct{}, 1)
		s := serve(t, site.around(eventStream(t, wanted, func(n int, r *http.Request) string {
			if n == 3 {
				if p, _ := cache.FromContext(r.Context()); p.Expire(r.Context()) != nil {
					return "the tokens do not expire"
				}
			}
			token, err := ask(r, cache, server, scope)
			if err != nil {
				return err.Error()
			}
			return token
		})))
		before := server.refreshes.Load()
		stream, header := subscribe(t, s, newRequest(t, s, site.cookie, nil), wanted)
		if got := header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control is %q", site.name, got)
		}
		var got []string
		for n := range 5 {
			if n > 0 {
				wanted <- struct{}{}
			}
			got = append(got, stream.event(t))
		}
		close(wanted)
		if got[0] != got[1] || got[1] == got[2] || got[2] != got[3] || got[3] != got[4] {
			t.Errorf("%s: got %q, want one token twice and then another", site.name, got)
		}
		if n := server.refreshes.Load() - before; n != 2 {
			t.Errorf("%s: %d refreshes, want 2", site.name, n)
		}
		if kept := stored(t, store, cache, ticket.Key(), scope); kept != got[4] {
			t.Errorf("%s: stored is %q, served was %q", site.name, kept, got[4])
		}
	}
}

// A stream that was there before the user signed out on another machine does not
// go on with what it saw at its beginning.
func TestStreamSeesRemoval(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		provider func(*counting) tokencache.Provider
		options  tokencache.Options
	}{
		"told by the provider": {func(c *counting) tokencache.Provider { return c.Provider }, tokencache.Options{L1MaxAge: time.Hour}},
		"by age":               {func(c *counting) tokencache.Provider { return c }, tokencache.Options{L1MaxAge: 20 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider := tt.provider(newStore(t))
			here, there := newCacheWith(t, provider, "https://login.example", &tt.options), newCache(t, provider, "https://login.example")
			server := newAuthority()
			ticket := server.signIn(t, here, "alice")
			wanted := make(chan struct{}, 1)
			s := serve(t, middleware.LoadAndSave(here, prepared(ticket.Key()))(
				eventStream(t, wanted, func(_ int, r *http.Request) string {
					switch _, err := ask(r, here, server, "read"); {
					case errors.Is(err, tokencache.ErrNoTokens):
						return "gone"
					case err != nil:
						return err.Error()
					}
					return "there"
				})))
			stream, _ := subscribe(t, s, newRequest(t, s, nil, nil), wanted)
			if got := stream.event(t); got != "there" {
				t.Fatalf("before: %s", got)
			}
			refreshes := server.refreshes.Load()
			if err := there.Partition(ticket.Key()).SignOut(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			for got := ""; got != "gone"; { // the request's own deadline ends it otherwise
				wanted <- struct{}{}
				if got = stream.event(t); got != "gone" && got != "there" {
					t.Fatalf("after: %s", got)
				}
			}
			close(wanted)
			if got := server.refreshes.Load(); got != refreshes {
				t.Errorf("refreshed %d times after the user had signed out", got-refreshes)
			}
		})
	}
}
