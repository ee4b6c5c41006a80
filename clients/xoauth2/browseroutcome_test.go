package xoauth2_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestBrowserOutcomes: the program hears how a sign-in has ended, and so does its user.
func TestBrowserOutcomes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		options xoauth2.SignInOptions
		change  func(url.Values)
		fault   idp.Fault
		want    error
		as      func(error) bool
		page    string
		codes   int64
	}{
		"denied": {change: fail("access_denied"), want: xoauth2.ErrDenied, page: "The sign-in was refused."},
		"another user": {
			options: xoauth2.SignInOptions{Account: "marker-bert"}, want: xoauth2.ErrOtherUser, page: "Somebody else has signed in.", codes: 1,
		},
		"interaction": {options: xoauth2.SignInOptions{Prompt: "none"}, as: is[*tokencache.InteractionRequiredError], page: "The sign-in is not complete."},
		"misconfigured": {
			change: fail("unauthorized_client"), as: is[*xoauth2.ProtocolError], page: "The sign-in is not set up correctly.",
		},
		"unreadable error": {change: fail("<script>marker"), as: is[*xoauth2.ProtocolError], page: "The sign-in is not set up correctly."},
		"server down":      {change: fail("temporarily_unavailable"), as: is[*tokencache.ServerError], page: "The sign-in failed."},
		"token endpoint down": {
			fault: idp.Fault{Endpoint: "token", Status: 503, Times: 1}, as: is[*tokencache.ServerError], page: "The sign-in failed.", codes: 1,
		},
		"nonce": {
			fault: idp.Fault{Endpoint: "token", Kind: "wrong_nonce", Times: 1}, want: xoauth2.ErrIDToken, page: "The sign-in failed.", codes: 1,
		},
		"code refused":   {change: set("code", "marker-code"), want: xoauth2.ErrCallback, page: "The sign-in failed.", codes: 1},
		"no code":        {change: del("code"), want: xoauth2.ErrCallback, page: "The sign-in failed."},
		"iss missing":    {change: del("iss"), want: xoauth2.ErrCallback, page: "The sign-in failed."},
		"another server": {change: set("iss", "https://evil.example"), want: xoauth2.ErrCallback, page: "The sign-in failed."},
		"another server refuses": {
			change: func(q url.Values) { fail("access_denied")(q); q.Set("iss", "https://evil.example") },
			want:   xoauth2.ErrCallback, page: "The sign-in failed.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newDesktop(t, desktop(""))
			p := newVisitor(t, "anna")
			p.before = func(back *url.URL) {
				if tt.change != nil {
					q := back.Query()
					tt.change(q)
					back.RawQuery = q.Encode()
				}
			}
			if tt.fault.Endpoint != "" {
				f.fault(t, tt.fault)
			}
			ticket, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{SignInOptions: tt.options, OpenURL: p.open})
			if tt.want != nil && !errors.Is(err, tt.want) || tt.as != nil && !tt.as(err) {
				t.Errorf("got %v", err)
			}
			v := p.saw()
			if v.status < 400 || !strings.Contains(v.page, "<h1>"+tt.page+"</h1>") {
				t.Errorf("the page has the status %d: %s", v.status, v.page)
			}
			checkPage(t, v.header, v.page)
			q := must(url.Parse(v.back)).Query()
			secrets := []string{q.Get("state"), q.Get("code"), "marker", "anna", "evil", "script"}
			for _, s := range secrets {
				if s != "" && strings.Contains(v.page, s) {
					t.Error("the page echoes the request")
				}
			}
			clean(t, err, secrets...)
			unused(t, redirectOf(t, v))
			if n := f.writes.Load(); n != 0 || ticket.Account() != "" {
				t.Errorf("%d partitions were written", n)
			}
			if got := f.idp.Stats().TokenRequests.AuthorizationCode; got != tt.codes {
				t.Errorf("%d codes were redeemed, want %d", got, tt.codes)
			}
		})
	}
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// TestBrowserConsentRefused goes through the server's own page.
func TestBrowserConsentRefused(t *testing.T) {
	t.Parallel()
	c := desktop("")
	c.idp.Consent = true
	f := newDesktop(t, c)
	hc := newVisitor(t, "").client
	pages := make(chan string, 1)
	_, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: func(u string) error {
		resp, err := hc.PostForm(u, url.Values{"username": {"anna"}, "consent": {"deny"}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, _, page, _ := load(hc, resp.Header.Get("Location"))
		pages <- page
		return nil
	}})
	if !errors.Is(err, xoauth2.ErrDenied) {
		t.Errorf("got %v", err)
	}
	if page := <-pages; !strings.Contains(page, "The sign-in was refused.") {
		t.Errorf("the page is %s", page)
	}
}

// TestBrowserStored: the user sees nothing before the tokens are stored, and that they
// were not if they were not.
func TestBrowserStored(t *testing.T) {
	t.Parallel()
	f := newDesktop(t, desktop(""))
	veto := errors.New("marker-veto")
	storing, stored := make(chan struct{}), make(chan error)
	cache := cacheOn(t, newProvider(t), f.idp.URL(), func(context.Context, *tokencache.Access) error {
		close(storing)
		return <-stored
	})
	client := newClient(t, cache, &xoauth2.Options{HTTPClient: httpClient(t)})
	for _, result := range []error{nil, veto} {
		storing, stored = make(chan struct{}), make(chan error)
		p, failed := newVisitor(t, "anna"), make(chan error, 1)
		go func() {
			_, err := client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: p.open})
			failed <- err
		}()
		<-storing
		select {
		case v := <-p.seen:
			t.Fatalf("there is a page before the tokens are stored: %s", v.page)
		default:
		}
		stored <- result
		v := p.saw()
		if err := <-failed; !errors.Is(err, result) {
			t.Errorf("got %v", err)
		}
		if signedIn := strings.Contains(v.page, "You are signed in."); signedIn != (result == nil) || (v.status == http.StatusOK) != signedIn {
			t.Errorf("the page has the status %d: %s", v.status, v.page)
		}
		clean(t, errors.New(v.page), "marker")
	}
}
