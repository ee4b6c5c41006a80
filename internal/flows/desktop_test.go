package flows_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// program is a public client, as a program on its user's machine is.
func (w *world) program(t *testing.T) *machine {
	t.Helper()
	return w.machine(t, "device", &xoauth2.Options{Scopes: []string{secondScope}})
}

// systemBrowser signs in with a browser that is sent to the program itself.
func systemBrowser(t *testing.T, w *world) {
	one, two := w.program(t), w.program(t)
	ticket := one.withBrowser(t, "anna")
	first := one.token(t, one.of(t, ticket.Key()), secondScope)
	w.served(t, two.of(t, ticket.Key()), two, secondScope, first)
	two.expire(t, ticket.Key())
	w.refreshed(t, two.of(t, ticket.Key()), two, secondScope, first)
}

// withBrowser signs a user in, whose browser opens the URL.
func (m *machine) withBrowser(t *testing.T, user string) tokencache.Ticket {
	t.Helper()
	type outcome struct {
		ticket tokencache.Ticket
		err    error
	}
	opened, done := make(chan string, 1), make(chan outcome, 1)
	go func() {
		ticket, err := m.SignInWithBrowser(t.Context(), &xoauth2.BrowserOptions{OpenURL: func(authURL string) error {
			opened <- authURL
			return nil
		}})
		done <- outcome{ticket, err}
	}()
	select {
	case authURL := <-opened:
		if got := m.world.visit(t, m.world.sentTo(t, authURL, user)); got != http.StatusOK {
			t.Errorf("the browser was shown status %d", got)
		}
	case o := <-done:
		t.Fatal("no browser was opened:", o.err)
	}
	o := <-done
	check(t, o.err)
	return o.ticket
}

// visit opens a page of the program, and returns its status.
func (w *world) visit(t *testing.T, page string) int {
	t.Helper()
	transport := w.transport()
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(page)
	check(t, err)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// silent signs a later process in with a record, of whichever user was signed in, until
// they sign out.
func silent(t *testing.T, w *world) {
	one := w.program(t)
	anna, bert := one.withBrowser(t, "anna"), one.withBrowser(t, "bert")
	for _, ticket := range []tokencache.Ticket{anna, bert} {
		record, err := one.AuthenticationRecord(t.Context(), ticket)
		check(t, err)
		kept, err := xoauth2.ParseAuthenticationRecord(record.Encode())
		check(t, err)
		first := one.token(t, one.of(t, ticket.Key()), secondScope)

		later, before := w.program(t), w.idp.Stats().TokenRequests
		again, err := later.SignInSilently(t.Context(), kept)
		check(t, err)
		if got := later.token(t, later.of(t, again.Key()), secondScope); got.AccessToken != first.AccessToken {
			t.Error("a later process got another token")
		}
		if after := w.idp.Stats().TokenRequests; after != before {
			t.Errorf("the server was asked: %+v, before %+v", after, before)
		}
		later.expire(t, again.Key())
		if _, err = w.program(t).SignInSilently(t.Context(), kept); err != nil {
			t.Errorf("with the refresh token alone: %v", err)
		}
		check(t, later.SignOut(later.of(t, again.Key())))
		if _, err = w.program(t).SignInSilently(t.Context(), kept); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("after signing out: %v", err)
		}
	}
}

// continuousAccess obtains a token of each kind, which are found again by who asks for
// that kind.
func continuousAccess(t *testing.T, w *world) {
	one, two := w.program(t), w.program(t)
	ticket := one.withBrowser(t, "anna")
	ordinary := tokencache.Request{Scopes: []string{secondScope}}
	evaluated := ordinary
	evaluated.CAE = true
	var first [2]tokencache.Token
	for i, req := range []tokencache.Request{ordinary, evaluated} {
		var err error
		first[i], err = one.Acquire(one.of(t, ticket.Key()), req)
		check(t, err)
	}
	if first[0].AccessToken == first[1].AccessToken {
		t.Error("the two kinds are one token")
	}
	before := w.idp.Stats().TokenRequests
	for i, req := range []tokencache.Request{ordinary, evaluated} {
		got, err := two.Acquire(two.of(t, ticket.Key()), req)
		check(t, err)
		if got.AccessToken != first[i].AccessToken {
			t.Errorf("with CAE %v another machine got another token", req.CAE)
		}
	}
	if after := w.idp.Stats().TokenRequests; after != before {
		t.Error("the server was asked again")
	}
}
