package xoauth2_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/testbrowser"
)

// chromium is a headless Chromium.
type chromium struct {
	ctx context.Context
	*testbrowser.Console
}

// openChromium starts a browser for the test.
func openChromium(t *testing.T) *chromium {
	t.Helper()
	ctx, stop := testbrowser.Start(t)
	t.Cleanup(stop)
	return &chromium{ctx, testbrowser.Listen(ctx)}
}

func (b *chromium) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := testbrowser.Do(b.ctx, steps...); err != nil {
		t.Error(err)
	}
}

// waitFor waits until the expression is true in the page.
func (b *chromium) waitFor(t *testing.T, expression string) {
	t.Helper()
	if err := testbrowser.WaitFor(b.ctx, expression); err != nil {
		t.Error(err)
	}
}

// press clicks the button with that text.
func (b *chromium) press(t *testing.T, text string) {
	t.Helper()
	b.do(t, testbrowser.Button(text))
}

// look checks that the page has its style, light and dark, and fits on a narrow phone.
func (b *chromium) look(t *testing.T, name string) {
	t.Helper()
	b.do(t, chromedp.EmulateViewport(360, 740))
	b.waitFor(t, `innerWidth === 360 && document.documentElement.scrollWidth === 360`)
	for _, scheme := range []string{"dark", "light"} {
		_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		if err != nil {
			t.Fatal(err)
		}
		b.waitFor(t, fmt.Sprintf(`(getComputedStyle(document.body).backgroundColor === "rgb(22, 22, 26)") === %t`, scheme == "dark"))
		b.shoot(t, name+"-"+scheme)
	}
}

// shoot saves screenshots of the page, if somebody wants them.
func (b *chromium) shoot(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("COATCHECK_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, width := range []int64{390, 1280} {
		b.do(t, chromedp.EmulateViewport(width, 900))
		png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, fmt.Sprintf("desktop-%s-%d.png", name, width))
		if err := os.WriteFile(file, png, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBrowserChromium signs in with a real browser, by both forms of the default
// redirect URL, and is refused once.
func TestBrowserChromium(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, answer, says string
		entra              bool
		want               error
		f                  *fixture
	}{
		{name: "signed-in", answer: "Allow", says: "You are signed in."},
		{name: "refused", answer: "Refuse", says: "The sign-in was refused.", want: xoauth2.ErrDenied},
		{name: "signed-in-entra", answer: "Allow", says: "You are signed in.", entra: true},
	}
	for i, tt := range tests { // before the browser, whose connections they would wait for at their end
		c := desktop("")
		c.entra = tt.entra
		c.idp.Consent = true
		tests[i].f = newDesktop(t, c)
	}
	b := openChromium(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{
				SignInOptions: xoauth2.SignInOptions{LoginHint: "anna"},
				OpenURL: func(u string) error {
					b.do(t, chromedp.Navigate(u))
					b.waitFor(t, `document.querySelector("#username")?.value === "anna"`)
					b.press(t, "Sign in")
					b.waitFor(t, `document.querySelector("h1")?.innerText === "Permissions requested"`)
					b.press(t, tt.answer)
					return nil
				},
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			// Nothing listens any more, and the page is there.
			b.waitFor(t, fmt.Sprintf(`document.querySelector("h1")?.innerText === %q`, tt.says))
			b.look(t, tt.name)
			if tt.want != nil {
				b.Forget() // the page has the status 403
			}
			b.Quiet(t)
		})
	}
}
