package xoauth2_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
)

// chromium is a headless Chromium.
type chromium struct {
	ctx context.Context

	mu       sync.Mutex
	problems []string // what the console said
}

// openChromium starts one of the browsers that scripts/deps.sh looks for.
func openChromium(t *testing.T) *chromium {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		if os.Getenv("COATCHECK_REQUIRE_BROWSER") == "1" {
			t.Fatal("COATCHECK_REQUIRE_BROWSER is 1, and there is no Chromium in the PATH")
		}
		t.Skip("there is no Chromium in the PATH; install it to run this test")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.DisableGPU, // in a directory of its own
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
	)
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // Chromium's sandbox refuses to run as root
	}
	ctx, cancelAllocator := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
		cancelAllocator()
	})
	b := &chromium{ctx: ctx}
	if err := chromedp.Do(ctx); err != nil { // starts it
		t.Fatal(err)
	}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.IsException() {
				b.mu.Lock()
				b.problems = append(b.problems, m.String())
				b.mu.Unlock()
			}
		}
	}()
	return b
}

func (b *chromium) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	err := chromedp.Do(ctx, steps...)
	for len(steps) == 1 && gone(err) {
		err = chromedp.Do(ctx, steps...)
	}
	if err != nil {
		t.Error(err)
	}
}

// gone tells that the element was replaced before it was clicked: chromedp had found it in
// the page as that was while it was loading.
func gone(err error) bool {
	e := (*cdproto.Error)(nil)
	return errors.As(err, &e) && strings.Contains(e.Message, "Could not find node")
}

// waitFor waits until the expression is true in the page.
func (b *chromium) waitFor(t *testing.T, expression string) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for time.Now().Before(deadline) {
		// While a page is on its way, evaluating may fail.
		if ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](`!!(`+expression+`)`)); err == nil && ok {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("waited in vain for %s", expression)
}

// press clicks the button with that text.
func (b *chromium) press(t *testing.T, text string) {
	t.Helper()
	b.do(t, chromedp.Click(chromedp.Search(fmt.Sprintf(`//button[normalize-space()=%q]`, text))))
}

// quiet fails the test if the console had anything to complain about, such as a
// violation of the content security policy.
func (b *chromium) quiet(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		t.Error("console:", p)
	}
	b.problems = nil
}

func (b *chromium) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = nil
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
				b.forget() // the page has the status 403
			}
			b.quiet(t)
		})
	}
}
