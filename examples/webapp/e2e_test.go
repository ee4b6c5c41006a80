package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestBrowser walks through the application as a person with a mouse does.
func TestBrowser(t *testing.T) {
	eachClient(t, func(t *testing.T, client string) {
		for name, start := range map[string]func(*testing.T) []string{
			inMemory:   func(*testing.T) []string { return nil },
			inRedis:    func(t *testing.T) []string { _, store := openRedisServer(t); return store },
			inPostgres: func(t *testing.T) []string { _, store := openPostgresServer(t); return store },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				browse(t, append(start(t), client)...)
			})
		}
	})
}

// browse is that walk, with the flags.
func browse(t *testing.T, args ...string) {
	s := open(t, args...)
	b := openBrowser(t, s)
	if s.store.name != inMemory {
		b.shots += s.store.name + "-"
	}
	b.do(t, chromedp.Navigate(s.nodes[0].url))
	b.fits(t)
	b.shoot(t, "1-sign-in")

	b.do(t, chromedp.SendKeys(chromedp.ID("login_hint"), "Ada Lovelace"))
	b.press(t, "Sign in")
	b.waitFor(t, `document.querySelector("#username")?.value === "Ada Lovelace"`) // the identity server's form
	b.fits(t)
	b.press(t, "Sign in")
	b.says(t, "h1", "Ada Lovelace")
	b.says(t, "#live", "live")
	b.waitFor(t, `/in \d+:\d\d/.test(document.querySelector("[data-countdown]").textContent)`)

	b.press(t, "Call the API")
	b.says(t, "#notice", "Ada Lovelace")
	b.says(t, "#last", "L1")
	b.says(t, "#log", "Token found in L1")

	before := s.idp().Stats()
	b.press(t, "Expire my access token")
	b.says(t, "#notice", "Expired")
	b.waitFor(t, `!document.querySelector("#tokens").innerText.includes("Access token")`)
	b.press(t, "Call the API")
	if s.store.name == inMemory {
		b.says(t, "#last", "the identity server")
		b.waitFor(t, latestSays("No valid token", "Lease taken", "Read from", "Refreshed", "Saved"))
	} else { // a database has more to tell, in another order, and perhaps of L1
		b.says(t, "#log", "Refreshed at the identity server")
	}
	b.says(t, "#tokens", "Access token")
	if after := s.idp().Stats(); after.TokenRequests.RefreshToken != before.TokenRequests.RefreshToken+1 || after.RefreshReused != 0 {
		t.Errorf("the server counts %+v, and before it was %+v: want one refresh", after, before)
	}
	b.fits(t)
	b.shoot(t, "2-dashboard")

	b.press(t, "Sign out")
	b.says(t, "#notice", "You are signed out.")
	b.shoot(t, "3-signed-out")
	b.do(t, chromedp.SendKeys(chromedp.ID("login_hint"), "Ada Lovelace"))
	b.press(t, "Sign in")
	b.waitFor(t, `document.querySelector("#username")`)
	b.press(t, "Sign in")
	b.says(t, "h1", "Ada Lovelace")
	b.Quiet(t)
}

// latestSays is true if the latest request in the log has these steps, and no
// others.
func latestSays(steps ...string) string {
	list, _ := json.Marshal(steps) // strings: cannot fail
	return `(() => {
		const want = ` + string(list) + `, got = [...document.querySelectorAll("#log > li:first-child .text")];
		return got.length === want.length && got.every((step, i) => step.textContent.startsWith(want[i]));
	})()`
}

// TestBrowserEvents watches, on one node, what happens on others.
func TestBrowserEvents(t *testing.T) { eachClient(t, browserEvents) }

func browserEvents(t *testing.T, client string) {
	s := open(t, client, "-nodes=4", "-auto-login")
	b := openBrowser(t, s)
	b.do(t, chromedp.Navigate(s.nodes[0].url+"/signin?login_hint=Ada"))
	b.says(t, "#live", "live")

	// A crowd on other nodes is told of in a few lines.
	v := s.signedIn(t, "Ada")
	v.expire(t)
	s.fault(t, idp.Fault{Endpoint: "token", Delay: 300 * time.Millisecond, Times: 1})
	var wg sync.WaitGroup
	for k := range 48 {
		wg.Go(func() { v.at(s.nodes[1+k%3]).me(t) })
	}
	wg.Wait()
	for _, text := range []string{"Refreshed at the identity server", "Waited for another node", "Waited for a request", "Lease busy", "Saved in the provider"} {
		b.says(t, "#log", text)
	}
	b.says(t, "#log", "× ")
	b.waitFor(t, `document.querySelectorAll("#log > li").length < 30`)
	b.waitFor(t, `document.querySelectorAll("#tokens .access").length === 1`)
	b.fits(t)
	b.shoot(t, "7-crowd")

	// Paused, the log stands still; it goes on where it was.
	b.press(t, "Pause")
	before := b.eval(t, `document.querySelector("#log").innerText`)
	b.press(t, "Call the API")
	b.says(t, "#notice", "Ada")
	v.expire(t)
	b.waitFor(t, `document.querySelectorAll("#tokens .access").length === 0`) // the tokens do not
	if got := b.eval(t, `document.querySelector("#log").innerText`); got != before {
		t.Errorf("paused, the log goes on: %s", got)
	}
	b.press(t, "Resume")
	b.waitFor(t, latestSays("Saved in the provider"))

	// Whatever the store or the server says is text.
	n := s.nodes[1]
	ticket := s.ticketOf(t)
	n.observe(t.Context(), tokencache.Event{Kind: "<b>new</b>", Detail: "<img src=x onerror=alert(1)>", Key: ticket.Key()})
	b.says(t, "#log", "<b>new</b>: <img src=x")
	for _, e := range []tokencache.Event{
		{Kind: tokencache.EventUnreadable, Detail: "altered or moved", Key: ticket.Key(), Err: tokencache.ErrUnreadable},
		{Kind: tokencache.EventDegraded, Detail: "unsaved", Source: tokencache.SourceServer, Key: ticket.Key(), Err: tokencache.ErrUnavailable},
		{Kind: tokencache.EventUnsaved, Detail: "kept", Key: ticket.Key()},
		{Kind: tokencache.EventUnsaved, Detail: "saved", Key: ticket.Key()},
	} {
		n.observe(t.Context(), e)
	}
	for _, detail := range []string{"began", "over"} {
		s.nodes[0].observe(t.Context(), tokencache.Event{Kind: tokencache.EventOutage, Detail: detail})
	}
	b.says(t, "#log", "The provider answers again")
	b.shoot(t, "8-outage")
	b.Quiet(t)
}

// TestBrowserTrouble shows what a person sees when something is wrong.
func TestBrowserTrouble(t *testing.T) { eachClient(t, browserTrouble) }

func browserTrouble(t *testing.T, client string) {
	s := open(t, client, "-nodes=2", "-auto-login")
	b := openBrowser(t, s)
	b.do(t, chromedp.Navigate(s.nodes[0].url+"/signin?login_hint=Grace"))
	b.says(t, "h1", "Grace")
	b.says(t, "#live", "live")

	s.fault(t, idp.Fault{Endpoint: "token", Status: 503})
	b.press(t, "Expire my access token")
	b.says(t, "#notice", "Expired")
	b.press(t, "Call the API")
	b.says(t, "#notice", "does not answer")
	b.says(t, "#log .failed", "Not refreshed: identity_server_unavailable")
	b.shoot(t, "4-server-down")
	s.idp().ClearFault("token")
	b.press(t, "Call the API")
	b.says(t, "#notice", "Grace")

	other := s.signedIn(t, "Grace").at(s.nodes[1])
	other.post(t, "/signout", url.Values{"everywhere": {"1"}}).want(t, http.StatusOK, "")
	b.says(t, "#notice", "You were signed out") // without having asked
	b.do(t, chromedp.Navigate(s.nodes[0].url+"/signin?login_hint=Grace"))
	b.says(t, "#live", "live")

	b.press(t, "Revoke at the server")
	b.says(t, "#notice", "Revoked")
	b.press(t, "Call the API")
	b.says(t, "h1", "Sign in")
	b.says(t, "#notice", "has ended your sign-in")
	b.fits(t)
	b.shoot(t, "5-revoked")

	b.do(t, chromedp.Navigate(s.nodes[0].url+"/callback?state=forged&code=x"))
	b.says(t, "h1", "Not signed in")
	b.fits(t)
	b.shoot(t, "6-problem")
}

// TestBrowserKeyboard does without a mouse.
func TestBrowserKeyboard(t *testing.T) { eachClient(t, browserKeyboard) }

func browserKeyboard(t *testing.T, client string) {
	s := open(t, client)
	b := openBrowser(t, s)
	b.do(t, chromedp.Navigate(s.nodes[0].url))
	b.waitFor(t, `document.readyState === "complete"`)
	b.keys(t, kb.Tab)
	if got := b.eval(t, `document.activeElement.innerText`); got != "Skip to the content" {
		t.Errorf("the first stop is %q, want the skip link", got)
	}
	b.keys(t, kb.Enter)
	b.keys(t, kb.Tab)
	b.keys(t, "grace")
	b.keys(t, kb.Enter)
	b.waitFor(t, `document.activeElement.id === "username" && document.activeElement.value === "grace"`)
	b.keys(t, kb.Enter)
	b.says(t, "h1", "grace")
	b.waitFor(t, `document.readyState === "complete"`) // until the script is there, the button loads a page
	b.tabTo(t, "Call the API")
	b.keys(t, kb.Enter)
	b.says(t, "#notice", "grace")
	if got := b.eval(t, `document.activeElement.innerText`); got != "Call the API" {
		t.Errorf("after the call the focus is on %q, want the button", got)
	}
	b.do(t, chromedp.Navigate(s.nodes[0].url))
	b.tabTo(t, "Sign out")
	b.keys(t, kb.Enter)
	b.says(t, "#notice", "You are signed out.")
	b.Quiet(t)
}

// TestBrowserProcesses is one browser at two processes that share a server.
func TestBrowserProcesses(t *testing.T) {
	t.Run(inRedis, func(t *testing.T) {
		t.Parallel()
		server, store := openRedisServer(t)
		browserProcesses(t, server, store, "Redis", "9-redis", "10-redis-hangs", "11-redis-gone")
	})
	t.Run(inPostgres, func(t *testing.T) {
		t.Parallel()
		server, store := openPostgresServer(t)
		browserProcesses(t, server, store, "PostgreSQL", "12-postgres", "13-postgres-hangs", "14-postgres-gone")
	})
}

func browserProcesses(t *testing.T, server server, store []string, title string, shots ...string) {
	first := open(t, append(store, "-auto-login")...)
	second := open(t, append(store, "-issuer="+first.issuer.url)...)
	here, there := first.nodes[0].url, second.nodes[0].url
	b := openBrowser(t, first)
	b.do(t, chromedp.Navigate(here))
	b.do(t, chromedp.SendKeys(chromedp.ID("login_hint"), "Ada Lovelace"))
	b.press(t, "Sign in")
	b.says(t, "h1", "Ada Lovelace")

	b.do(t, chromedp.Navigate(there)) // signed in, without another sign-in
	b.says(t, "h1", "Ada Lovelace")
	b.says(t, "#live", "live")
	b.says(t, "#quiet", second.nodes[0].listener.Addr().String())
	b.says(t, "#last .provider", title)
	b.press(t, "Call the API")
	b.says(t, "#notice", "Ada Lovelace")

	// What happens to the tokens at the other process shows here.
	v := first.signedIn(t, "Ada Lovelace")
	v.expire(t)
	b.says(t, "#log", "Changed elsewhere")
	b.waitFor(t, `document.querySelectorAll("#tokens .access").length === 0`)
	b.press(t, "Call the API")
	b.says(t, "#log", "Refreshed at the identity server")
	b.waitFor(t, `document.querySelectorAll("#tokens .access").length === 1`)
	b.fits(t)
	b.shoot(t, shots[0])
	b.Quiet(t)

	// Without the server the page stays, and says what is wrong; the tokens do too.
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	b.press(t, "Call the API")
	b.says(t, "#notice", "has not signed you out")
	b.shoot(t, shots[1])
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return v.at(second.nodes[0]).get(t, "/api/cache").status == http.StatusOK })
	b.press(t, "Call the API")
	b.says(t, "#notice", "The API knows you")

	v.post(t, "/signout", url.Values{"everywhere": {"1"}}).want(t, http.StatusOK, "")
	b.says(t, "h1", "Sign in") // without having asked
	b.do(t, chromedp.Navigate(here))
	b.says(t, "h1", "Sign in")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	b.do(t, chromedp.SendKeys(chromedp.ID("login_hint"), "Ada Lovelace"))
	b.press(t, "Sign in")
	b.says(t, "h1", "One moment, please")
	b.fits(t)
	b.shoot(t, shots[2])
}
