// Package testbrowser has a headless Chromium open pages, for tests of what people see.
package testbrowser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/chromedp"
)

// path returns the first of the browsers that scripts/deps.sh looks for. Without one the
// test is skipped, or fails where COATCHECK_REQUIRE_BROWSER is 1.
func path(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("COATCHECK_REQUIRE_BROWSER") == "1" {
		t.Fatal("COATCHECK_REQUIRE_BROWSER is 1, and there is no Chromium in the PATH")
	}
	t.Skip("there is no Chromium in the PATH; install it to run this test")
	return ""
}

// Start starts a browser, which lives until stop is called, and returns the context of
// its tab. Contexts made from it by [chromedp.NewContext] are other tabs.
func Start(t testing.TB) (ctx context.Context, stop func()) {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path(t)), chromedp.DisableGPU, // in a directory of its own
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
	)
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // Chromium's sandbox refuses to run as root
	}
	ctx, cancelAllocator := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(ctx)
	stop = func() {
		_ = chromedp.Cancel(ctx)
		cancel()
		cancelAllocator()
	}
	if err := chromedp.Do(ctx); err != nil { // starts it
		stop()
		t.Fatal(err)
	}
	return ctx, stop
}

// Do runs the steps in the tab, for 20 seconds at most. A single step whose element was
// replaced before it was clicked, is repeated: chromedp had found it in the page as that
// was while it was loading.
func Do(ctx context.Context, steps ...chromedp.Action[chromedp.Void]) error {
	if chromedp.FromContext(ctx).Target == nil {
		// The first run opens the tab, which lives as long as its context.
		if err := chromedp.Do(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := chromedp.Do(ctx, steps...)
	for len(steps) == 1 && gone(err) {
		err = chromedp.Do(ctx, steps...)
	}
	return err
}

func gone(err error) bool {
	e := (*cdproto.Error)(nil)
	return errors.As(err, &e) && strings.Contains(e.Message, "Could not find node")
}

// WaitFor waits until the expression is true in the page, for 15 seconds at most.
func WaitFor(ctx context.Context, expression string) error {
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		// While a page is on its way, evaluating may fail.
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`!!(`+expression+`)`))
		if err == nil && ok {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited in vain for %s", expression)
		}
	}
}

// Button is a click on the button with that text, and Link one on the link.
func Button(text string) chromedp.Action[chromedp.Void] { return element("button", text) }

// Link is described at [Button].
func Link(text string) chromedp.Action[chromedp.Void] { return element("a", text) }

func element(name, text string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.Search(fmt.Sprintf(`//%s[normalize-space()=%q]`, name, text)))
}

// Console is what the console of a tab has had to complain about, such as a violation
// of the content security policy.
type Console struct {
	mu       sync.Mutex
	problems []string
}

// Listen begins to listen to the console of a tab, until the tab ends.
func Listen(ctx context.Context) *Console {
	c := &Console{}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.IsException() {
				c.mu.Lock()
				c.problems = append(c.problems, m.String())
				c.mu.Unlock()
			}
		}
	}()
	return c
}

// Forget returns the complaints since the last time.
func (c *Console) Forget() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	problems := c.problems
	c.problems = nil
	return problems
}

// Quiet fails the test if there was a complaint.
func (c *Console) Quiet(t testing.TB) {
	t.Helper()
	for _, p := range c.Forget() {
		t.Error("console:", p)
	}
}
