package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/coatcheck-go/coatcheck/internal/testbrowser"
)

// browser is a tab of a headless Chromium.
type browser struct {
	ctx context.Context
	*testbrowser.Console
}

// openBrowser starts a browser of its own for the test.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	ctx, stop := testbrowser.Start(t)
	t.Cleanup(stop)
	b := &browser{ctx: ctx}
	b.do(t, chromedp.EmulateViewport(1280, 900))
	b.Console = testbrowser.Listen(ctx)
	return b
}

// do runs the steps, which fail the test if they take too long.
func (b *browser) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := testbrowser.Do(b.ctx, steps...); err != nil {
		t.Fatalf("%v; the page says: %s", err, b.eval(t, `document.body.innerText`))
	}
}

func (b *browser) eval(t *testing.T, expression string) string {
	t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// waitFor waits until the expression is true in the page.
func (b *browser) waitFor(t *testing.T, expression string) {
	t.Helper()
	if err := testbrowser.WaitFor(b.ctx, expression); err != nil {
		t.Fatalf("%v; the page says: %s", err, b.eval(t, `document.body.innerText`))
	}
}

// says waits until the element holds the text.
func (b *browser) says(t *testing.T, selector, text string) {
	t.Helper()
	b.waitFor(t, fmt.Sprintf(`document.querySelector(%q)?.innerText.includes(%q)`, selector, text))
}

// press clicks the button with that text.
func (b *browser) press(t *testing.T, text string) {
	t.Helper()
	b.do(t, testbrowser.Button(text))
}

// follow clicks the link with that text.
func (b *browser) follow(t *testing.T, text string) {
	t.Helper()
	b.do(t, testbrowser.Link(text))
}

// confirm submits the form of the identity server, which knows who is expected.
func (b *browser) confirm(t *testing.T, user string) {
	t.Helper()
	b.waitFor(t, fmt.Sprintf(`document.querySelector("#username")?.value.toLowerCase().startsWith(%q)`, user))
	b.press(t, "Sign in")
}

// shoot saves screenshots of the page, if somebody wants them: wide and narrow,
// light and dark.
func (b *browser) shoot(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("COATCHECK_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, width := range []int64{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			b.do(t, chromedp.EmulateViewport(width, 900))
			b.scheme(t, scheme)
			time.Sleep(400 * time.Millisecond) // animations
			png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
			if err := os.WriteFile(file, png, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.do(t, chromedp.EmulateViewport(1280, 900))
}

func (b *browser) scheme(t *testing.T, scheme string) {
	t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fits fails the test if the page scrolls sideways on a narrow phone.
func (b *browser) fits(t *testing.T) {
	t.Helper()
	b.do(t, chromedp.EmulateViewport(360, 740))
	b.waitFor(t, `innerWidth === 360`)
	if got := b.eval(t, `String(document.documentElement.scrollWidth)`); got != "360" {
		t.Errorf("the page is %s pixels wide on a screen of 360", got)
	}
	b.do(t, chromedp.EmulateViewport(1280, 900))
}

// TestBrowser signs in, presses the buttons, and reads what the page says.
func TestBrowser(t *testing.T) {
	s := open(t)
	b := openBrowser(t)
	b.do(t, chromedp.Navigate(s.web.server.url+"/"))
	b.says(t, "h1", "Sign in")
	b.shoot(t, "webapi-signin")
	b.fits(t)
	b.do(t, chromedp.SendKeys(chromedp.Search("#login_hint"), "Ada"))
	b.press(t, "Sign in")
	b.waitFor(t, `document.querySelector("[name=username]")`)
	b.press(t, "Sign in")
	b.says(t, "body", ordersAudience)
	b.press(t, "Allow")
	b.says(t, "h1", "Hello, Ada")
	b.says(t, "#chain-title ~ ol", "Call Orders, and see.")
	b.shoot(t, "webapi-before")
	b.Quiet(t)

	sources := func(want ...string) { // L1 keeps what it has for 15 seconds only, which screenshots can take
		t.Helper()
		b.waitFor(t, fmt.Sprintf(`[...document.querySelectorAll(".source")].map(e => e.innerText.replace("the provider", "L1")).join() === %q`, strings.Join(want, ",")))
	}
	b.follow(t, "Call Orders")
	sources("L1", "the identity server")
	b.waitFor(t, `[...document.querySelectorAll(".user")].map(e => e.innerText).join() === "Ada,Ada"`)
	b.waitFor(t, fmt.Sprintf(`[...document.querySelectorAll(".audience")].map(e => e.innerText).join() === %q`, ordersAudience+","+pricesAudience))
	b.shoot(t, "webapi-first")
	b.follow(t, "Call Orders")
	sources("L1", "L1")
	b.says(t, "table", "silk scarf")
	b.shoot(t, "webapi-second")
	b.fits(t)
	if n := s.asked(); n != 1 {
		t.Errorf("the server was asked %d times on behalf of the user", n)
	}

	b.press(t, "Withdraw my consent")
	b.says(t, "#notice", "Orders may not call Prices")
	b.follow(t, "Call Orders")
	b.says(t, "h1", "Your consent is missing")
	b.says(t, ".said", `Bearer error="insufficient_scope"`)
	b.shoot(t, "webapi-consent")
	b.fits(t)
	b.press(t, "Allow it")
	b.says(t, "#notice", "Orders may call Prices")
	b.follow(t, "Call Orders")
	sources("L1", "the identity server")

	b.press(t, "Demand a second factor")
	b.says(t, "#notice", "wants a second factor")
	b.shoot(t, "webapi-demand")
	b.Forget() // the page for the consent that was missing had the status 403
	b.follow(t, "Call Orders")
	b.confirm(t, "ada") // at the server, in the middle of the call
	sources("L1", "the identity server")
	b.waitFor(t, `location.pathname + location.search === "/orders"`) // where the user was going
	b.shoot(t, "webapi-stepped-up")
	b.fits(t)
	b.Quiet(t)

	// Demanded again at once it would be a circle: the page says so.
	b.press(t, "Demand a second factor")
	b.says(t, "#notice", "wants a second factor")
	b.follow(t, "Call Orders")
	b.says(t, "h1", "Not yet")
	b.says(t, ".said", "acrs")
	b.shoot(t, "webapi-not-yet")
	b.fits(t)
	b.follow(t, "Back to the start")
	b.says(t, "h1", "Hello, ")
	b.Forget() // that page had the status 403

	b.press(t, "Revoke at the identity server")
	b.says(t, "#notice", "by the identity server")
	b.shoot(t, "webapi-revoked")
	b.Forget()
	b.do(t, chromedp.SendKeys(chromedp.Search("#login_hint"), "Ada"))
	b.press(t, "Sign in")
	b.waitFor(t, `document.querySelector("[name=username]")`)
	b.press(t, "Sign in")
	b.says(t, "h1", "Hello, ")
	b.press(t, "Sign out everywhere")
	b.says(t, "#notice", "You are signed out.")
	b.Quiet(t)
}
