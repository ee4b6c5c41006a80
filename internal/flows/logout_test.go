package flows_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A user is signed in in three browsers, has called the app as an API, and is about
// to be refreshed when they are signed out at the authorization server. Nothing of
// them is left, on whatever machine, and the refresh does not bring it back.
func TestBackChannelLogoutReachesEverything(t *testing.T) {
	t.Parallel()
	for _, b := range shared {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			var told atomic.Pointer[machine]
			endpoint := httptest.NewServer(middleware.BackChannelLogout(func(ctx context.Context, token string) error {
				return told.Load().BackChannelLogout(ctx, token)
			}))
			t.Cleanup(endpoint.Close)
			w := newWorld(t, b, idp.Options{Clients: []idp.Client{{
				ID: "site", Secret: "marker-site-secret", RedirectURIs: []string{"http://127.0.0.1/callback"},
				Audiences: []string{"api://site"}, BackChannelLogoutURI: endpoint.URL,
			}}})
			const scope = "api://site/Read"
			site := func() *machine {
				return w.machine(t, "site", &xoauth2.Options{ClientSecret: "marker-site-secret", RedirectURL: callbackURL, Scopes: []string{scope}})
			}
			one, two := site(), site()
			told.Store(two)
			bert := one.signIn(t, "bert", nil)
			browsers := []tokencache.Ticket{
				one.signIn(t, "anna", nil),
				two.signIn(t, "anna", &xoauth2.SignInOptions{Session: "marker-1"}),
				one.signIn(t, "anna", &xoauth2.SignInOptions{Session: "marker-2"}),
			}
			incoming := one.token(t, one.of(t, browsers[0].Key()), scope).AccessToken
			one.token(t, one.incoming(t, incoming, "api://site"), secondScope)
			work, err := two.StartSession(two.incoming(t, incoming, "api://site"), "marker-work", secondScope)
			check(t, err)

			one.expire(t, browsers[1].Key())
			check(t, w.idp.Fault(idp.Fault{Endpoint: "token", Delay: 700 * time.Millisecond}))
			refreshed := make(chan error, 1)
			go func() {
				_, err := one.Token(one.of(t, browsers[1].Key()), scope)
				refreshed <- err
			}()
			time.Sleep(200 * time.Millisecond)
			_, err = w.idp.EndAllSessions("anna")
			check(t, err)
			if err := <-refreshed; !errors.Is(err, tokencache.ErrNoTokens) {
				t.Errorf("the refresh in flight ended with %v", err)
			}
			for _, ticket := range append(browsers, work) {
				for _, m := range []*machine{one, two} {
					if err := m.ended(t, ticket.Key()); !errors.Is(err, tokencache.ErrNoTokens) {
						t.Errorf("a machine has tokens still: %v", err)
					}
				}
			}
			one.token(t, one.of(t, bert.Key()), scope)
			time.Sleep(300 * time.Millisecond) // whatever was on its way
			records, of := 0, 0
			for _, m := range []*machine{one, two} {
				r, n := m.seen.left(t)
				records, of = records+r, of+n
			}
			if records != 2 || of < 6 {
				t.Errorf("%d records are left of %d, want bert's tokens and the note of his sign-in", records, of)
			}
		})
	}
}

// ended is what a machine says of a partition that has ended, once it has heard of it: on
// a busy machine that takes longer than it should, but not as long as copies live.
func (m *machine) ended(t *testing.T, key tokencache.Key) (err error) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = m.cache.Partition(key).Check(t.Context()); errors.Is(err, tokencache.ErrNoTokens) {
			return err
		}
	}
	return err
}
