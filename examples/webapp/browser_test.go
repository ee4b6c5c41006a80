package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/coatcheck-go/coatcheck/internal/testbrowser"
)

// browser is a tab of a headless Chromium.
type browser struct {
	ctx   context.Context
	shots string // begins the names of its screenshots
	*testbrowser.Console
}

// chromium is the one process of all browsers: to start one takes as long as a test does.
var chromium struct {
	mu   sync.Mutex
	ctx  context.Context // nil before the first browser
	stop func()
}

// startChromium returns a context whose children are browsers.
func startChromium(t *testing.T) context.Context {
	t.Helper()
	chromium.mu.Lock()
	defer chromium.mu.Unlock()
	if chromium.ctx == nil {
		chromium.ctx, chromium.stop = testbrowser.Start(t)
	}
	return chromium.ctx
}

// stopChromium ends what the tests have started.
func stopChromium() {
	chromium.mu.Lock()
	defer chromium.mu.Unlock()
	if chromium.ctx != nil {
		chromium.stop()
	}
}

// openBrowser opens a browser for the test, with cookies and a cache of its own, at a
// site. Only if the identity server there has a certificate of its own making, the
// browser takes any.
func openBrowser(t *testing.T, s *site) *browser {
	t.Helper()
	ctx, cancel := chromedp.NewContext(startChromium(t), chromedp.WithNewBrowserContext())
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
	})
	b := &browser{ctx: ctx}
	if s.library == withMSAL {
		b.shots = "msal-"
	}
	b.do(t, chromedp.EmulateViewport(1280, 900))
	// Others are open at the same time, and only one has the focus.
	_, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	if err == nil && s.idp().Certificate() != nil {
		_, err = chromedp.Call(ctx, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
	}
	if err != nil {
		t.Fatal(err)
	}
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

// keys types, on whatever has the focus.
func (b *browser) keys(t *testing.T, keys string) {
	t.Helper()
	b.do(t, chromedp.KeyEvent(keys))
}

// tabTo presses the tab key until the element that has the focus has the text.
func (b *browser) tabTo(t *testing.T, text string) {
	t.Helper()
	for range 30 {
		b.keys(t, kb.Tab)
		if b.eval(t, `document.activeElement.innerText ?? ""`) == text {
			return
		}
	}
	t.Fatalf("the tab key does not lead to %q", text)
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
			file := filepath.Join(dir, fmt.Sprintf("%s%s-%d-%s.png", b.shots, name, width, scheme))
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
