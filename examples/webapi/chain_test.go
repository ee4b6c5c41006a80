package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// checkHops fails the test unless each hop was made in the user's name, by the one
// before it, with a token of its own.
func checkHops(t *testing.T, hops []hop, user string) {
	t.Helper()
	for i, want := range []hop{
		{API: "orders", seen: seen{Client: webID, Audience: ordersAudience, Scopes: []string{ordersRead}}},
		{API: "prices", seen: seen{Client: ordersID, Audience: pricesAudience, Scopes: []string{pricesRead}}},
	} {
		got := hops[i]
		if got.API != want.API || got.User != user || got.Client != want.Client || got.Audience != want.Audience ||
			!slices.Equal(got.Scopes, want.Scopes) || time.Until(got.Expires) <= 0 {
			t.Errorf("hop %d for %s: got %+v", i+1, user, got)
		}
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.signedIn(t, "Ada")
	first := v.chain(t)
	checkHops(t, first.Hops, "Ada")
	if first.Hops[1].Source != "server" || s.asked() != 1 {
		t.Errorf("the second hop's first token is from %s, and the server was asked %d times", first.Hops[1].Source, s.asked())
	}
	second := v.chain(t)
	checkHops(t, second.Hops, "Ada")
	for i, h := range second.Hops {
		if h.Source != "l1" || !h.Expires.Equal(first.Hops[i].Expires) {
			t.Errorf("hop %d is not from the cache the second time: %+v", i+1, h)
		}
	}
	stats := s.issuer.server.Stats().TokenRequests
	if stats.OnBehalfOf != 1 || stats.RefreshToken != 0 || stats.AuthorizationCode != 1 {
		t.Errorf("the server was asked %+v", stats)
	}
	if len(second.Orders) != 2 || second.Orders[1] != (order{"silk scarf", 2, 9800}) {
		t.Errorf("the orders are %+v", second.Orders)
	}
	if now, ever := s.stored[s.prices.program].left(t); now+ever != 0 {
		t.Errorf("the API that calls nobody has stored %d records", ever)
	}

	page := v.get(t, "/orders")
	for _, text := range []string{ordersAudience, pricesAudience, ordersID, "L1", "Ada", "€ 189.00"} {
		page.says(t, http.StatusOK, text)
	}
	if n := s.asked(); n != 1 {
		t.Errorf("for the page, the server was asked again: %d times", n)
	}
}

// TestCrowd has many users call at once, several times each, and a few whom the
// server makes wait. Nobody ever gets an answer about somebody else.
func TestCrowd(t *testing.T) {
	t.Parallel()
	const users, calls = 50, 4
	s := open(t, "-auto-login")
	var wg sync.WaitGroup
	for u := range users {
		name := fmt.Sprintf("user-%d", u)
		v := s.signedIn(t, name)
		for range calls {
			wg.Go(func() {
				got := v.get(t, "/api/chain")
				if got.status != http.StatusOK {
					t.Errorf("%s: status %d: %s", name, got.status, got.body)
					return
				}
				checkHops(t, decode[chain](t, got.body).Hops, name)
			})
		}
	}
	wg.Wait()
	stats := s.issuer.server.Stats()
	if stats.OnBehalfOfMost != 1 || stats.OnBehalfOfDistinct != users {
		t.Errorf("for %d users, the server was asked for %d tokens, and for one %d times", users, stats.OnBehalfOfDistinct, stats.OnBehalfOfMost)
	}
	if now, _ := s.stored[s.orders.program].left(t); now != users {
		t.Errorf("the API keeps %d records for %d users", now, users)
	}
}

// TestSharedRedis has two machines of the API, with one store.
func TestSharedRedis(t *testing.T) {
	t.Parallel()
	redis := testserver.NewRedis(t)
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := tokencache.CreateKeyFile(keys); err != nil {
		t.Fatal(err)
	}
	shared := []string{"-provider=redis", "-redis-url=redis://" + redis.Addr() + "/0", "-keys-file=" + keys}
	one := open(t, shared...)
	two := open(t, append(shared, "-issuer="+one.issuer.url)...)
	v := one.signedIn(t, "ada")
	v.chain(t)
	token := "Bearer " + one.token(t, ordersScope)
	got := v.bearer(t, two.orders.program, http.MethodGet, "/orders", token)
	got.want(t, http.StatusOK, "")
	if h := decode[ordersAnswer](t, got.body).Next; h.Source != "provider" || h.User != "ada" || one.asked() != 1 {
		t.Errorf("the other machine got %+v, and the server was asked %d times", h, one.asked())
	}

	// A sign-out at one machine is one at all of them.
	v.post(t, "/signout", map[string][]string{"everywhere": {"1"}}).says(t, http.StatusOK, "You are signed out.")
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(5 * time.Millisecond) { // until the other machine has heard
		got = v.bearer(t, two.orders.program, http.MethodGet, "/orders", token)
		if got.status == http.StatusUnauthorized || time.Now().After(end) {
			break
		}
	}
	got.want(t, http.StatusUnauthorized, "")
	if one.asked() != 1 {
		t.Error("after the sign-out, the server was asked again")
	}

	// Nobody is signed out because the store is down.
	ada := one.signedIn(t, "ada")
	if err := redis.Kill(); err != nil {
		t.Fatal(err)
	}
	checkHops(t, ada.chain(t).Hops, "ada") // with a token of this process, and one of the server's
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
}
