package tokencache_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A server that hangs is not waited for by everybody whose token is still valid.
func TestServerDownIsNotAskedByThoseWhoHaveAToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		cache := newCache(t, newProvider(t), nil)
		ticket, err := cache.SignIn(t.Context(), func(ctx context.Context) (tokencache.Grant, error) {
			g, err := a.signIn("read")(ctx)
			g.RefreshOn = time.Now().Add(-time.Second) // due
			return g, err
		})
		if err != nil {
			t.Fatal(err)
		}
		failure := &tokencache.ServerError{RetryAfter: 10 * time.Second, Err: errors.New("timeout")}
		a.before = func(context.Context) error { time.Sleep(3 * time.Second); return failure }
		p := func() *tokencache.Partition { return cache.Partition(ticket.Key()) }

		began := time.Now()
		for range 5 {
			mustToken(t, p(), a, "read")
		}
		if waited := time.Since(began); waited != 3*time.Second {
			t.Errorf("five calls with a valid token waited %v for the server, want one timeout of 3s", waited)
		}
		// Whoever has no token asks: nobody knows better.
		_, err = p().Token(t.Context(), tokencache.Request{Scopes: []string{"write"}}, a)
		wantError(t, err, failure)
		a.wantRefreshes(t, 2)

		time.Sleep(10 * time.Second)
		a.before = nil
		if tok := mustToken(t, p(), a, "read"); tok.Source != tokencache.SourceServer {
			t.Errorf("after Retry-After the token is from %v, want the server", tok.Source)
		}
	})
}
