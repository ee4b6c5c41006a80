package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coatcheck-go/coatcheck/middleware"
)

// Over HTTP/2 the requests of one connection run at the same moment; each is its own
// user's.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	const users = 10
	cache, server := newCache(t, newStore(t), "https://login.example"), newAuthority()
	sessions := newSessions()
	var arrived atomic.Int64
	together := make(chan struct{})
	s := httptest.NewUnstartedServer(sessions.LoadAndSave(middleware.LoadAndSave(cache, fromSession(sessions, "ticket"))(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			if arrived.Add(1) == 1+users {
				close(together)
			}
			if r.URL.Path == "/together" {
				select {
				case <-together:
				case <-r.Context().Done():
				}
			}
			token, err := ask(r, cache, server, "read")
			fmt.Fprint(w, r.RemoteAddr, " ", token, err)
		}))))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	request := func(account string) *http.Request {
		ticket := server.signIn(t, cache, account).Encode()
		return newRequest(t, s, newSession(t, sessions, map[string]string{"ticket": ticket}), nil)
	}

	connection, _, _ := strings.Cut(do(t, s, request("the first")).body, " ") // the others use its connection
	var wg sync.WaitGroup
	for n := range users {
		account := fmt.Sprintf("user %d", n)
		r := request(account)
		r.URL.Path = "/together"
		wg.Go(func() {
			got, err := send(s, r)
			if err != nil {
				t.Errorf("%s: %v", account, err)
				return
			}
			if want := connection + " " + account + ": read"; !strings.HasPrefix(got.body, want) || got.ProtoMajor != 2 {
				t.Errorf("%s: %q over %s, want %q over HTTP/2", account, got.body, got.Proto, want)
			}
			if cc := got.Header.Get("Cache-Control"); cc != "no-store" {
				t.Errorf("%s: Cache-Control is %q", account, cc)
			}
		})
	}
	wg.Wait()
}
