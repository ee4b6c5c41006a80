package flows_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// flow is a way to obtain tokens. It obtains one on one machine, and finds it on
// another.
type flow struct {
	name string
	run  func(*testing.T, *world)
}

var flows = []flow{
	{"authorization code", authorizationCode},
	{"refresh", refresh},
	{"client assertion", clientAssertion},
	{"certificate", certificate},
	{"device code", deviceCode},
	{"system browser", systemBrowser},
	{"silent", silent},
	{"continuous access evaluation", continuousAccess},
	{"user name and password", password},
	{"on behalf of", onBehalfOf},
	{"long-running on behalf of", longRunning},
	{"client credentials", clientCredentials},
}

// Every flow of every client on every provider: a token is obtained once, and served
// from there to another machine.
func TestFlows(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			start := b.start
			if b.server {
				one := b.start(t)
				start = func(*testing.T) *store { return one }
			}
			for client := range newClients {
				for _, f := range flows {
					t.Run(client+"/"+f.name, func(t *testing.T) {
						t.Parallel()
						f.run(t, newWorldOf(t, client, start(t), idp.Options{
							Clients: signing(t), DeviceInterval: time.Second, Passwords: map[string]string{"anna": "marker-password"},
						}))
					})
				}
			}
		})
	}
}

// served asks another machine, which must not ask the server.
func (w *world) served(t *testing.T, ctx context.Context, m *machine, scope string, want tokencache.Token) {
	t.Helper()
	before := w.idp.Stats().TokenRequests
	got := m.token(t, ctx, scope)
	if got.AccessToken != want.AccessToken || got.Source != tokencache.SourceProvider {
		t.Errorf("another machine got another token, or from %v", got.Source)
	}
	if after := w.idp.Stats().TokenRequests; after != before {
		t.Errorf("the server was asked: %+v, before %+v", after, before)
	}
}

// refreshed asks a machine, which must ask the server once, for another token. Where it
// comes from in the end is another matter: who hears meanwhile of a change of the
// partition, be it a late word of its own, looks there once more.
func (w *world) refreshed(t *testing.T, ctx context.Context, m *machine, scope string, old tokencache.Token) tokencache.Token {
	t.Helper()
	before := w.idp.Stats().TokenRequests
	got := m.token(t, ctx, scope)
	if got.AccessToken == old.AccessToken {
		t.Error("it is the old token still")
	}
	before.RefreshToken++
	if after := w.idp.Stats().TokenRequests; after != before {
		t.Errorf("the server was asked %+v, want %+v", after, before)
	}
	return got
}

func authorizationCode(t *testing.T, w *world) {
	one, two := w.app(t), w.app(t)
	ticket := one.signIn(t, "anna", nil)
	w.served(t, two.of(t, ticket.Key()), two, mineScope, one.token(t, one.of(t, ticket.Key()), mineScope))
}

func refresh(t *testing.T, w *world) {
	one, two := w.app(t), w.app(t)
	ticket := one.signIn(t, "anna", &xoauth2.SignInOptions{Session: "marker-session"})
	before := one.token(t, one.of(t, ticket.Key()), mineScope)
	one.expire(t, ticket.Key())
	after := w.refreshed(t, one.of(t, ticket.Key()), one, mineScope, before)
	w.served(t, two.of(t, ticket.Key()), two, mineScope, after)
}

func onBehalfOf(t *testing.T, w *world) {
	app, one, two := w.app(t), w.api(t), w.api(t)
	incoming := app.token(t, app.of(t, app.signIn(t, "anna", nil).Key()), firstScope).AccessToken
	first := one.token(t, one.incoming(t, incoming, "api://first"), secondScope)
	w.served(t, two.incoming(t, incoming, "api://first"), two, secondScope, first)
}

func longRunning(t *testing.T, w *world) {
	app, one, two := w.app(t), w.api(t), w.api(t)
	incoming := app.token(t, app.of(t, app.signIn(t, "anna", nil).Key()), firstScope).AccessToken
	ticket, err := one.StartSession(one.incoming(t, incoming, "api://first"), "marker-work", secondScope)
	check(t, err)
	first := one.token(t, one.of(t, ticket.Key()), secondScope)
	w.served(t, two.of(t, ticket.Key()), two, secondScope, first)
	two.expire(t, ticket.Key())
	w.refreshed(t, two.of(t, ticket.Key()), two, secondScope, first)
	check(t, two.SignOut(two.of(t, ticket.Key())))
	if _, err := two.Token(two.of(t, ticket.Key()), secondScope); !errors.Is(err, tokencache.ErrRemoved) {
		t.Errorf("after its end: %v", err)
	}
}

func clientCredentials(t *testing.T, w *world) {
	one, two := w.api(t), w.api(t)
	for _, scope := range []string{secondScope, "api://third/.default"} {
		req := tokencache.Request{Scopes: []string{scope}}
		want, err := one.AppToken(t.Context(), req)
		check(t, err)
		got, err := two.AppToken(t.Context(), req)
		check(t, err)
		if got.AccessToken != want.AccessToken || got.Source != tokencache.SourceProvider {
			t.Errorf("another machine got another token, or from %v", got.Source)
		}
	}
	if n := w.idp.Stats().TokenRequests.ClientCredentials; n != 2 {
		t.Errorf("the server was asked %d times for two resources", n)
	}
}

// user is the name of one of many.
func user(i int) string { return fmt.Sprint("user", i) }
