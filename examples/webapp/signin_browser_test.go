package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/coatcheck-go/coatcheck/internal/testbrowser"
)

// signIn signs a user in through the pages of both servers.
func (b *browser) signIn(t *testing.T, s *site, user string) {
	t.Helper()
	b.do(t, chromedp.Navigate(s.nodes[0].url+"/signin?login_hint="+url.QueryEscape(user)))
	b.confirm(t, user)
	b.says(t, "h1", "Hello, "+user)
}

// confirm submits the form of the identity server, which knows who is expected.
func (b *browser) confirm(t *testing.T, user string) {
	t.Helper()
	b.waitFor(t, fmt.Sprintf(`document.querySelector("#username")?.value.toLowerCase().startsWith(%q)`, strings.ToLower(user)))
	b.press(t, "Sign in")
}

// follow clicks the link with that text.
func (b *browser) follow(t *testing.T, text string) {
	t.Helper()
	b.do(t, testbrowser.Link(text))
}

// cookie returns the session cookie, which scripts cannot see.
func (b *browser) cookie(t *testing.T, s *site) string {
	t.Helper()
	got, err := chromedp.Call(b.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{s.nodes[0].url}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range got.Cookies {
		if c.Name == s.cookie.Name {
			return c.Value
		}
	}
	return ""
}

// plant puts a session cookie into the browser, as an attacker does from another host
// of the same site, or with a moment at the victim's keyboard.
func (b *browser) plant(t *testing.T, s *site, value string) {
	t.Helper()
	b.do(t) // the browser runs
	_, err := chromedp.Call(b.ctx, network.SetCookie, network.SetCookieParams{Name: s.cookie.Name, Value: value, URL: s.nodes[0].url})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBrowserPlantedCookie: an attacker whose cookie the victim signs in with has got
// nothing by it (session fixation).
func TestBrowserPlantedCookie(t *testing.T) { eachClient(t, browserPlantedCookie) }

func browserPlantedCookie(t *testing.T, client string) {
	s := open(t, client)
	home := s.nodes[0].url
	t.Run("of nobody", func(t *testing.T) {
		attacker, victim := openBrowser(t, s), openBrowser(t, s)
		attacker.do(t, chromedp.Navigate(home+"/signin?login_hint=mallory")) // begins a sign-in: there is a session
		attacker.waitFor(t, `document.querySelector("#username")`)
		planted := attacker.cookie(t, s)
		if planted == "" {
			t.Fatal("the attacker has no cookie")
		}
		victim.plant(t, s, planted)
		victim.signIn(t, s, "Ada Lovelace")
		if got := victim.cookie(t, s); got == planted || got == "" {
			t.Error("the cookie is the one that was planted")
		}
		// Neither with the cookie, nor by going on with the sign-in that it knew of.
		attacker.press(t, "Sign in")
		attacker.says(t, "h1", "Not signed in")
		attacker.do(t, chromedp.Navigate(home))
		attacker.says(t, "h1", "Sign in")
		attacker.plant(t, s, planted)
		attacker.do(t, chromedp.Navigate(home))
		attacker.says(t, "h1", "Sign in")
		victim.do(t, chromedp.Reload())
		victim.says(t, "h1", "Hello, Ada Lovelace")
	})
	t.Run("of the attacker", func(t *testing.T) {
		attacker, victim := openBrowser(t, s), openBrowser(t, s)
		attacker.signIn(t, s, "mallory")
		attacker.press(t, "Call the API") // something that the session remembers
		attacker.says(t, "#notice", "mallory")
		planted := attacker.cookie(t, s)
		victim.plant(t, s, planted)
		victim.do(t, chromedp.Navigate(home))
		victim.says(t, "h1", "Hello, mallory")
		victim.signIn(t, s, "Ada Lovelace")
		victim.says(t, "#last", "No call yet")
		attacker.do(t, chromedp.Navigate(home))
		attacker.says(t, "h1", "Sign in")
	})
}

// TestBrowserConsent asks for consent in the middle of a request, which is refused once
// and then given, and goes on where the user was.
func TestBrowserConsent(t *testing.T) { eachClient(t, browserConsent) }

func browserConsent(t *testing.T, client string) {
	s := open(t, client)
	b := openBrowser(t, s)
	b.signIn(t, s, "ada")
	b.says(t, "#live", "live")
	b.fits(t)
	b.shoot(t, "15-before-consent")
	before := b.cookie(t, s)

	b.follow(t, "Write a task")
	b.confirm(t, "ada")
	b.says(t, "h1", "Permissions requested")
	b.says(t, "ul", writeScope)
	if got := b.eval(t, `document.querySelector("ul").innerText`); strings.Contains(got, apiScope) {
		t.Errorf("it asks again for what everybody has: %s", got)
	}
	b.fits(t)
	b.shoot(t, "16-consent")
	b.Quiet(t)
	b.press(t, "Refuse")
	b.says(t, "h1", "Not allowed")
	b.says(t, "#notice", "still signed in")
	b.fits(t)
	b.shoot(t, "17-refused")
	b.follow(t, "Back to the start")
	b.says(t, "h1", "Hello, ada")
	b.Forget() // that page had the status 403
	if s.idp().Stats().SignIns != 1 {
		t.Error("a refusal counts as a sign-in")
	}

	b.follow(t, "Write a task")
	b.confirm(t, "ada")
	b.press(t, "Allow")
	b.says(t, "h1", "Write a task")
	b.waitFor(t, `location.pathname + location.search === "/task"`) // where the user was going
	if b.cookie(t, s) == before {
		t.Error("the session's token is the same as before")
	}
	b.fits(t)
	b.shoot(t, "18-task")
	b.do(t, chromedp.SendKeys(chromedp.ID("text"), "Buy <b>pears</b>"))
	b.press(t, "Save")
	b.says(t, "#notice", "The API has your task: Buy <b>pears</b>")
	b.says(t, "#tokens", writeScope)
	b.says(t, "#tokens", apiScope)
	b.fits(t)
	b.shoot(t, "19-written")
	b.follow(t, "Write a task") // without being asked
	b.says(t, "h1", "Write a task")
	b.Quiet(t)

	// What a script of the page is refused, leads on as well, and back to the page.
	b.do(t, chromedp.Navigate(s.nodes[0].url))
	b.says(t, "#live", "live")
	if err := s.idp().RequireInteraction("ada", `{"id_token":{"acr":{"essential":true}}}`); err != nil {
		t.Fatal(err)
	}
	b.press(t, "Expire my access token")
	b.says(t, "#notice", "Expired")
	b.press(t, "Call the API")
	b.confirm(t, "ada")
	b.says(t, "h1", "Hello, ada")
	b.says(t, "#live", "live")
	b.press(t, "Call the API")
	b.says(t, "#notice", "The API knows you")
	b.Forget() // the script was refused, with 403

	// Demanded again at once it would be a circle: the page says so.
	if err := s.idp().RequireInteraction("ada", `{"id_token":{"acr":{"essential":true}}}`); err != nil {
		t.Fatal(err)
	}
	b.press(t, "Expire my access token")
	b.says(t, "#notice", "Expired")
	b.press(t, "Call the API")
	b.says(t, "h1", "Not yet")
	b.fits(t)
	b.shoot(t, "20-not-yet")

}

// TestBrowserConsentOfAnother has somebody else answer at the identity server.
func TestBrowserConsentOfAnother(t *testing.T) { eachClient(t, browserConsentOfAnother) }

func browserConsentOfAnother(t *testing.T, client string) {
	s := open(t, client)
	b := openBrowser(t, s)
	b.signIn(t, s, "ada")
	b.follow(t, "Write a task")
	b.waitFor(t, `document.querySelector("#username")?.value.startsWith("ada")`)
	b.do(t, chromedp.SetValue(chromedp.ID("username"), "mallory"))
	b.press(t, "Sign in")
	b.press(t, "Allow")
	b.says(t, "h1", "Somebody else")
	b.fits(t)
	b.shoot(t, "21-somebody-else")
	b.follow(t, "Back to the start")
	b.says(t, "h1", "Hello, ada")
}

// TestBrowserSignOutElsewhere: signing out in one browser ends the other, the page that
// is open there, the one that is not live, and whatever its cookie is used for later.
func TestBrowserSignOutElsewhere(t *testing.T) { eachClient(t, browserSignOutElsewhere) }

func browserSignOutElsewhere(t *testing.T, client string) {
	s := open(t, client)
	here, there := openBrowser(t, s), openBrowser(t, s)
	here.signIn(t, s, "Ada Lovelace")
	there.signIn(t, s, "Ada Lovelace")
	there.says(t, "#live", "live")
	here.says(t, "#live", "live")

	here.press(t, "Sign out")
	here.says(t, "#notice", "You are signed out.")
	there.says(t, "h1", "Sign in") // without having asked
	there.says(t, "#notice", "You were signed out")
	there.showsNothingOf(t, "Lovelace")
	there.fits(t)
	there.shoot(t, "22-signed-out-elsewhere")
	there.do(t, chromedp.Reload())
	there.says(t, "h1", "Sign in")

	// A page that hears of nothing until it is used.
	there.signIn(t, s, "Ada Lovelace")
	if err := s.idp().Consent("Ada Lovelace", clientID, writeScope); err != nil {
		t.Fatal(err)
	}
	there.follow(t, "Write a task")
	there.says(t, "h1", "Write a task")
	old := there.cookie(t, s)
	here.signIn(t, s, "Ada Lovelace")
	here.press(t, "Sign out everywhere")
	here.says(t, "#notice", "You are signed out.")
	there.do(t, chromedp.SendKeys(chromedp.ID("text"), "Buy pears"))
	there.press(t, "Save")
	there.says(t, "h1", "Sign in")
	there.showsNothingOf(t, "Lovelace", "pears")

	// And when the same user has signed in again, the old cookie is still worth nothing.
	here.signIn(t, s, "Ada Lovelace")
	there.plant(t, s, old)
	there.do(t, chromedp.Navigate(s.nodes[0].url))
	there.says(t, "h1", "Sign in")
	there.showsNothingOf(t, "Lovelace")
	here.do(t, chromedp.Reload())
	here.says(t, "h1", "Hello, Ada Lovelace")
}

// showsNothingOf fails the test if the page has one of the words anywhere, in its
// fields as well.
func (b *browser) showsNothingOf(t *testing.T, words ...string) {
	t.Helper()
	page := b.eval(t, `document.title + document.documentElement.outerHTML + [...document.querySelectorAll("input")].map((i) => i.value).join()`)
	for _, word := range words {
		if strings.Contains(page, word) {
			t.Errorf("%s shows %q", b.eval(t, `location.pathname`), word)
		}
	}
}

// TestBrowserBack: after signing out, the back button shows nothing of the user, from
// whatever the browser has kept.
func TestBrowserBack(t *testing.T) { eachClient(t, browserBack) }

func browserBack(t *testing.T, client string) {
	s := open(t, client)
	if err := s.idp().Consent("Ada Lovelace", clientID, writeScope); err != nil {
		t.Fatal(err)
	}
	b := openBrowser(t, s)
	b.signIn(t, s, "Ada Lovelace")
	b.follow(t, "Write a task")
	b.says(t, "h1", "Write a task")
	b.do(t, chromedp.SendKeys(chromedp.ID("text"), "Buy pears"))
	b.follow(t, "Back to the tokens")
	b.says(t, "#live", "live")
	b.press(t, "Sign out")
	b.says(t, "#notice", "You are signed out.")
	b.showsNothingOf(t, "Lovelace", "pears")

	for i, path := range []string{"/", "/task"} {
		b.eval(t, `history.back(); ""`)
		b.waitFor(t, fmt.Sprintf(`location.pathname === %q && document.readyState === "complete"`, path))
		b.says(t, "h1", "Sign in")
		b.showsNothingOf(t, "Lovelace", "pears")
		b.shoot(t, fmt.Sprintf("23-back-%d", i+1))
	}
	b.eval(t, `history.forward(); ""`)
	b.waitFor(t, `location.pathname === "/"`)
	b.says(t, "h1", "Sign in")
	b.showsNothingOf(t, "Lovelace", "pears")

	// Nothing is in the browser's cache either.
	for _, path := range []string{"/", "/task", "/tokens", "/api/me", "/api/cache"} {
		got, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](
			`fetch(`+"`"+path+"`"+`, { cache: "only-if-cached", mode: "same-origin" }).then((r) => String(r.status), () => "none")`, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatal(err)
		}
		if got != "none" && got != "504" {
			t.Errorf("%s is in the cache, with status %s", path, got)
		}
	}
}

// TestBrowserKeepsPage: a page that a browser has kept all the same, as it was, is
// hidden before it is shown, and asked for again.
func TestBrowserKeepsPage(t *testing.T) { eachClient(t, browserKeepsPage) }

func browserKeepsPage(t *testing.T, client string) {
	s := open(t, client)
	b := openBrowser(t, s)
	b.signIn(t, s, "Ada Lovelace")
	b.says(t, "#live", "live")
	b.eval(t, `dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })); ""`) // into the cache of the back button
	if got := b.eval(t, `String(document.querySelector("h1").checkVisibility())`); got != "false" {
		t.Error("the page still shows whose it was")
	}
	v := s.visitor(t, 0) // signed out meanwhile, by a click in another tab
	v.Jar.SetCookies(mustParse(t, v.base), []*http.Cookie{{Name: s.cookie.Name, Value: b.cookie(t, s)}})
	v.post(t, "/signout", nil)
	b.eval(t, `dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })); ""`) // and back
	b.says(t, "h1", "Sign in")
	b.showsNothingOf(t, "Lovelace")
}
