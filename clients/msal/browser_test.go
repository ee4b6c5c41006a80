package msal_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// desktop is a public client whose registration is as Entra ID has it for desktop
// applications.
func (w *world) desktop(t *testing.T, o msal.Options) *machine {
	t.Helper()
	return w.machine(t, "desktop", o)
}

func newDesktopWorld(t *testing.T, o idp.Options) *world {
	t.Helper()
	o.Clients = append(o.Clients, idp.Client{ID: "desktop", Public: true, RedirectURIs: []string{"http://localhost", "http://127.0.0.1/back"}})
	return newWorld(t, o)
}

// opens is [xoauth2.BrowserOptions].OpenURL with an HTTP client as the browser, in
// which the user gives an answer. The last page goes to pages.
func (w *world) opens(t *testing.T, answer url.Values, authURLs chan<- *url.URL, pages chan<- string) func(string) error {
	t.Helper()
	return func(authURL string) error {
		u, err := url.Parse(authURL)
		if err != nil {
			return err
		}
		authURLs <- u
		hc := &http.Client{Transport: w.metadata.base} // follows the redirect, with GET
		resp, err := hc.PostForm(authURL, answer)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		pages <- string(b)
		return err
	}
}

// TestSignInWithBrowser: MSAL redeems the code, with the redirect URL that has the port
// of this sign-in, and goes on with what came of it.
func TestSignInWithBrowser(t *testing.T) {
	t.Parallel()
	for _, redirect := range []string{"", "http://127.0.0.1/back"} {
		w := newDesktopWorld(t, idp.Options{})
		m := w.desktop(t, msal.Options{RedirectURL: redirect, Scopes: []string{mineScope}})
		authURLs, pages := make(chan *url.URL, 1), make(chan string, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		t.Cleanup(cancel)
		ticket, err := m.SignInWithBrowser(ctx, &xoauth2.BrowserOptions{
			OpenURL: w.opens(t, url.Values{"username": {"ada"}}, authURLs, pages),
		})
		must(t, err)
		q := (<-authURLs).Query()
		back, err := url.Parse(q.Get("redirect_uri"))
		must(t, err)
		host, path := "localhost", ""
		if redirect != "" {
			host, path = "127.0.0.1", "/back"
		}
		if back.Hostname() != host || back.Port() == "" || back.Path != path {
			t.Errorf("the redirect URL is %s", back)
		}
		if !strings.Contains(q.Get("scope"), "profile") {
			t.Errorf("the user was asked for %q, and MSAL asks for profile", q.Get("scope"))
		}
		if page := <-pages; !strings.Contains(page, "You are signed in.") {
			t.Errorf("the page is %s", page)
		}
		of := m.of(t, ticket.Key())
		m.token(t, of, mineScope)
		m.expire(t, ticket.Key())
		m.token(t, of, mineScope)
		if got := w.idp.Stats().TokenRequests; got.AuthorizationCode != 1 || got.RefreshToken != 1 {
			t.Errorf("token requests %+v", got)
		}

		// The next process finds the tokens, and asks nobody.
		next := w.desktop(t, msal.Options{RedirectURL: redirect})
		next.token(t, next.of(t, ticket.Key()), mineScope)
		if got := w.idp.Stats().TokenRequests; got.RefreshToken != 1 {
			t.Errorf("token requests %+v", got)
		}
	}
}

// TestSignInWithBrowserFails: what MSAL makes of an answer changes nothing in how a
// sign-in ends.
func TestSignInWithBrowserFails(t *testing.T) {
	t.Parallel()
	ada, no := url.Values{"username": {"ada"}}, url.Values{"username": {"ada"}, "consent": {"deny"}}
	for name, tt := range map[string]struct {
		answer url.Values
		o      xoauth2.SignInOptions
		fault  idp.Fault
		check  func(error) bool
		page   string
	}{
		"denied": {no, xoauth2.SignInOptions{}, idp.Fault{}, func(err error) bool { return errors.Is(err, xoauth2.ErrDenied) }, "was refused"},
		"another user": {
			ada, xoauth2.SignInOptions{Account: "marker-bert"}, idp.Fault{},
			func(err error) bool { return errors.Is(err, xoauth2.ErrOtherUser) }, "Somebody else",
		},
		"interaction": {ada, xoauth2.SignInOptions{Prompt: "none"}, idp.Fault{}, func(err error) bool {
			var e *tokencache.InteractionRequiredError
			return errors.As(err, &e)
		}, "is not complete"},
		"server down": {ada, xoauth2.SignInOptions{}, idp.Fault{Endpoint: "token", Status: 503, Times: 10}, func(err error) bool {
			var e *tokencache.ServerError
			return errors.As(err, &e)
		}, "The sign-in failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newDesktopWorld(t, idp.Options{Consent: name == "denied"})
			m := w.desktop(t, msal.Options{Scopes: []string{mineScope}})
			if tt.fault.Endpoint != "" {
				w.fault(t, tt.fault)
			}
			authURLs, pages := make(chan *url.URL, 1), make(chan string, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			t.Cleanup(cancel)
			_, err := m.SignInWithBrowser(ctx, &xoauth2.BrowserOptions{
				SignInOptions: tt.o, OpenURL: w.opens(t, tt.answer, authURLs, pages),
			})
			if !tt.check(err) {
				t.Errorf("got %v", err)
			}
			clean(t, err, (<-authURLs).Query().Get("state"), "marker", "ada")
			if page := <-pages; !strings.Contains(page, tt.page) {
				t.Errorf("the page is %s", page)
			}
		})
	}
}
