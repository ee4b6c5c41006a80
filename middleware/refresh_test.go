package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// What is refreshed after the client has the first byte is stored like anything else.
func TestLateWrites(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	cache, server := newCache(t, store, "https://login.example"), newAuthority()
	ticket := server.signIn(t, cache, "alice")
	for _, site := range sites(t, cache, ticket) {
		scope, begun := "read."+site.name, make(chan struct{})
		s := serve(t, site.around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, ".")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			select {
			case <-begun:
			case <-r.Context().Done():
			}
			token, err := ask(r, cache, server, scope)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, token)
		})))
		resp, err := s.Client().Do(newRequest(t, s, site.cookie, nil))
		if err != nil {
			t.Fatal(err)
		}
		var first [1]byte
		if _, err := io.ReadFull(resp.Body, first[:]); err != nil {
			t.Fatal(err)
		}
		close(begun)
		token, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.HasPrefix(string(token), "alice: "+scope) {
			t.Errorf("%s: got %q, %v", site.name, token, err)
		}
		if got := stored(t, store, cache, ticket.Key(), scope); got != string(token) {
			t.Errorf("%s: stored is %q, served was %q", site.name, got, token)
		}
	}
}

// quiet is a log that keeps chi's Recoverer from printing the stack.
type quiet struct{ panics chan any }

func (q quiet) Write(int, int, http.Header, time.Duration, any) {}
func (q quiet) Panic(v any, _ []byte)                           { q.panics <- v }

// A handler that panics after a refresh has lost nothing of it, whether the panic is
// recovered or aborts the response.
func TestPanics(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{"recovered": "a mistake", "aborted": http.ErrAbortHandler} {
		store := newStore(t)
		cache, server := newCache(t, store, "https://login.example"), newAuthority()
		ticket := server.signIn(t, cache, "alice")
		for _, site := range sites(t, cache, ticket) {
			scope, panics, first := "read."+site.name, make(chan any, 1), true
			h := chimiddleware.Recoverer(site.around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				token, err := ask(r, cache, server, scope)
				if err != nil {
					t.Error(err)
				}
				if first {
					first = false
					panic(value)
				}
				fmt.Fprint(w, token)
			})))
			var logged bytes.Buffer
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(w, chimiddleware.WithLogEntry(r, quiet{panics}))
			}))
			s.Config.ErrorLog = log.New(&logged, "", 0)
			s.Start()

			before := server.refreshes.Load()
			failed, err := send(s, newRequest(t, s, site.cookie, nil))
			switch {
			case name == "recovered" && (err != nil || failed.StatusCode != http.StatusInternalServerError || <-panics != value):
				t.Errorf("%s, %s: %v, %v, want status 500 from the Recoverer", name, site.name, failed.Response, err)
			case name == "aborted" && !errors.Is(err, io.EOF):
				t.Errorf("%s, %s: %v, want a connection that ends", name, site.name, err)
			}
			kept := stored(t, store, cache, ticket.Key(), scope)
			if got := do(t, s, newRequest(t, s, site.cookie, nil)); got.body != kept || !strings.HasPrefix(kept, "alice: "+scope) {
				t.Errorf("%s, %s: then %q, stored is %q", name, site.name, got.body, kept)
			}
			if n := server.refreshes.Load() - before; n != 1 {
				t.Errorf("%s, %s: %d refreshes, want 1", name, site.name, n)
			}
			s.Close() // the server logs a panic that is not ErrAbortHandler
			if logged.Len() > 0 {
				t.Errorf("%s, %s: the server logged %s", name, site.name, &logged)
			}
		}
	}
}

// The client leaves while the authorization server, which has spent the refresh
// token already, is about to answer.
func TestClientDisconnects(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	cache, server := newCache(t, store, "https://login.example"), newAuthority()
	ticket := server.signIn(t, cache, "alice")
	for _, site := range sites(t, cache, ticket) {
		scope := "read." + site.name
		asked, answer, handled := make(chan struct{}, 9), make(chan struct{}), make(chan error, 2)
		server.answering = func(ctx context.Context) error {
			asked <- struct{}{}
			<-answer
			return ctx.Err()
		}
		s := serve(t, site.around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token, err := ask(r, cache, server, scope)
			handled <- err
			fmt.Fprint(w, token)
		})))
		before := server.refreshes.Load()
		r := newRequest(t, s, site.cookie, nil)
		ctx, leave := context.WithCancel(r.Context())
		left := make(chan error, 1)
		go func() {
			_, err := send(s, r.WithContext(ctx))
			left <- err
		}()
		<-asked
		leave()
		for who, ended := range map[string]chan error{"client": left, "handler": handled} {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: the %s got %v, want the context's error", site.name, who, err)
			}
		}
		close(answer)
		got := do(t, s, newRequest(t, s, site.cookie, nil))
		if err := <-handled; err != nil || !strings.HasPrefix(got.body, "alice: "+scope) {
			t.Errorf("%s: the next request got %q, %v", site.name, got.body, err)
		}
		if n := server.refreshes.Load() - before; n != 1 {
			t.Errorf("%s: %d refreshes, want 1", site.name, n)
		}
		if kept := stored(t, store, cache, ticket.Key(), scope); kept != got.body {
			t.Errorf("%s: stored is %q, served was %q", site.name, kept, got.body)
		}
		if t.Failed() {
			return // the refresh token is lost, and the next site would ask in vain
		}
	}
}

// The goroutines of one handler share what is loaded and what is refreshed.
func TestSubrequests(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	server := newAuthority()
	ticket := server.signIn(t, newCache(t, store, "https://login.example"), "alice")
	cache := newCache(t, store, "https://login.example") // has nothing in memory
	sets := [][]string{{"mail.read", "mail.send"}, {"mail.send", "mail.read"}, {"files.read"}}
	var asking sync.WaitGroup
	asking.Add(50)
	subrequests := func(r *http.Request, server tokencache.Server) map[string]int {
		var mu sync.Mutex
		got := map[string]int{}
		var wg sync.WaitGroup
		for n := range 50 {
			wg.Go(func() {
				asking.Done()
				token, err := ask(r, cache, server, sets[n%len(sets)]...)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got[token]++
			})
		}
		wg.Wait()
		return got
	}
	h := func(use func(*http.Request)) *httptest.Server {
		return serve(t, middleware.LoadAndSave(cache, prepared(ticket.Key()))(http.HandlerFunc(
			func(_ http.ResponseWriter, r *http.Request) { use(r) })))
	}
	s := h(func(r *http.Request) {
		if got := subrequests(r, server); len(got) != 2 {
			t.Errorf("got %v, want one token for the mail and one for the files", got)
		}
	})
	do(t, s, newRequest(t, s, nil, nil))
	if n := server.refreshes.Load(); n != 2 {
		t.Errorf("%d refreshes, want one for each set of scopes", n)
	}

	cache = newCache(t, store, "https://login.example") // once more
	asking.Add(50)
	store.reading = asking.Wait // nobody comes after the load that all should share
	before := store.loads.Load()
	s = h(func(r *http.Request) {
		if got := subrequests(r, nil); len(got) != 2 {
			t.Errorf("then got %v", got)
		}
	})
	do(t, s, newRequest(t, s, nil, nil))
	if n := store.loads.Load() - before; n != 1 {
		t.Errorf("what is cached was read %d times, want once", n)
	}
}

// One request works with the caches of two authorization servers.
func TestSeveralCaches(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	one, two := newCache(t, store, "https://one.example"), newCache(t, store, "https://two.example")
	serverOne, serverTwo := newAuthority(), newAuthority()
	sessions := newSessions()
	s := serve(t, sessions.LoadAndSave(middleware.LoadAndSave(one, fromSession(sessions, "one"))(
		middleware.LoadAndSave(two, fromSession(sessions, "two"))(http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) {
				first, err1 := ask(r, one, serverOne, "mail")
				second, err2 := ask(r, two, serverTwo, "files")
				// The second server has never heard of what the first has issued.
				third, err3 := ask(r, two, serverTwo, "mail")
				fmt.Fprintln(w, first, second, third, err1, err2, err3)
			})))))
	alice, bob := serverOne.signIn(t, one, "alice"), serverTwo.signIn(t, two, "bob")
	both := newSession(t, sessions, map[string]string{"one": alice.Encode(), "two": bob.Encode()})
	single := newSession(t, sessions, map[string]string{"one": alice.Encode()})

	want := "alice: mail, 2 bob: files, 2 bob: mail, 3 <nil> <nil> <nil>\n"
	for range 2 {
		if got := do(t, s, newRequest(t, s, both, nil)); got.body != want {
			t.Errorf("got %q, want %q", got.body, want)
		}
	}
	none := "the request has no partition"
	want = "alice: mail, 2   <nil> " + none + " " + none + "\n"
	if got := do(t, s, newRequest(t, s, single, nil)); got.body != want {
		t.Errorf("signed in at one: got %q, want %q", got.body, want)
	}
}
