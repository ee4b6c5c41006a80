package session_test

import (
	"context"
	"errors"
	"testing"

	"github.com/alexedwards/scs/v2"

	"github.com/coatcheck-go/coatcheck/providers/session"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// One call removes the tokens, has them revoked, and ends the session.
func TestDestroy(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, sessions *scs.SessionManager, o *session.Options) {
		app, ctx := signedIn(t, sessions, o)
		key, token := ticketOf(t, ctx, app).Key(), sessions.Token(ctx)
		must(t, app.signOut(ctx))
		if err := app.cache.Partition(key).Check(t.Context()); !errors.Is(err, tokencache.ErrRemoved) {
			t.Errorf("the tokens are there: %v", err)
		}
		if _, found := find(t, sessions.Store, token); found || sessions.Status(ctx) != scs.Destroyed {
			t.Error("the session is there")
		}
		if app.authority.revoked.Load() != 1 {
			t.Error("the server was not told")
		}
		must(t, app.provider.Destroy(ctx, app.cache, nil)) // of nobody
	})
}

// With nothing given, the tokens are removed and no server is told.
func TestDestroyAlone(t *testing.T) {
	t.Parallel()
	m := inMemory(t)
	app, ctx := signedIn(t, m, nil)
	key := ticketOf(t, ctx, app).Key()
	if err := app.provider.Destroy(ctx, nil, nil); err == nil {
		t.Error("destroyed without a cache")
	}
	must(t, app.provider.Destroy(ctx, app.cache, nil))
	if err := app.cache.Partition(key).Check(t.Context()); !errors.Is(err, tokencache.ErrRemoved) {
		t.Errorf("the tokens are there: %v", err)
	}
}

// If the tokens cannot be removed, the session stays, for another attempt.
func TestDestroyInOutage(t *testing.T) {
	t.Parallel()
	m, faults := inMemory(t), providertest.NewFaults(newMemory(t))
	app, ctx := signedIn(t, m, &session.Options{Provider: faults})
	key, token := ticketOf(t, ctx, app).Key(), m.Token(ctx)
	faults.Set(providertest.Down())
	if err := app.signOut(ctx); !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if _, found := find(t, m.Store, token); !found {
		t.Error("the session is gone, and the tokens are not")
	}
	if got := ticketOf(t, ctx, app); got.Key() != key {
		t.Error("the ticket is another")
	}
	faults.Clear()
	if err := app.signOut(ctx); err != nil {
		t.Error("repeated:", err)
	}
	if _, found := find(t, m.Store, token); found {
		t.Error("the session is there")
	}
}

// A hook that forbids it keeps both.
func TestDestroyForbidden(t *testing.T) {
	t.Parallel()
	m := inMemory(t)
	app, ctx := signedIn(t, m, nil)
	forbidden := errors.New("forbidden")
	err := app.provider.Destroy(ctx, app.cache, func(context.Context) error { return forbidden })
	if !errors.Is(err, forbidden) {
		t.Errorf("error %v", err)
	}
	must(t, app.cache.Partition(ticketOf(t, ctx, app).Key()).Check(ctx))
}

// A server that cannot be told is reported, and keeps nobody signed in.
func TestDestroyWithoutServer(t *testing.T) {
	t.Parallel()
	m := inMemory(t)
	app, ctx := signedIn(t, m, nil)
	key, token := ticketOf(t, ctx, app).Key(), m.Token(ctx)
	app.authority.deaf.Store(true)
	var server *tokencache.ServerError
	if err := app.signOut(ctx); !errors.As(err, &server) {
		t.Errorf("error %v", err)
	}
	if _, found := find(t, m.Store, token); found {
		t.Error("the session is there")
	}
	if err := app.cache.Partition(key).Check(t.Context()); !errors.Is(err, tokencache.ErrRemoved) {
		t.Errorf("the tokens are there: %v", err)
	}
}

// Who has left before the end is signed out all the same.
func TestDestroyGoesOn(t *testing.T) {
	t.Parallel()
	for _, s := range stores() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			m := newManager(s.open(t)(t))
			app, ctx := signedIn(t, m, nil)
			token := m.Token(ctx)
			left, cancel := context.WithCancel(ctx)
			cancel()
			must(t, app.signOut(left))
			if _, found := find(t, m.Store, token); found {
				t.Error("the session is there")
			}
		})
	}
}

// broken is a store that does not answer.
type broken struct {
	scs.Store
	down bool
}

var errBroken = errors.New("dial tcp marker-host: connection refused")

func (b *broken) Find(token string) ([]byte, bool, error) {
	if b.down {
		return nil, false, errBroken
	}
	return b.Store.Find(token)
}

func (b *broken) Delete(token string) error {
	if b.down {
		return errBroken
	}
	return b.Store.Delete(token)
}

// Of a session store that fails, the tokens are gone first; it can be repeated.
func TestDestroyWithoutSessionStore(t *testing.T) {
	t.Parallel()
	store := &broken{Store: inMemory(t).Store}
	m := newManager(store)
	app, ctx := signedIn(t, m, &session.Options{Provider: newMemory(t)})
	key := ticketOf(t, ctx, app).Key()
	store.down = true
	err := app.signOut(ctx)
	if !errors.Is(err, tokencache.ErrUnavailable) || !errors.Is(err, errBroken) {
		t.Errorf("not an outage (%v)", errors.Is(err, errBroken))
	}
	if err := app.cache.Partition(key).Check(t.Context()); !errors.Is(err, tokencache.ErrRemoved) {
		t.Error("the tokens are there")
	}
	ticketOf(t, ctx, app)
	store.down = false
	must(t, app.signOut(ctx))
}

// What a store says is for errors.Is, and not for logs: it may have names in it.
func TestErrors(t *testing.T) {
	t.Parallel()
	store := &broken{Store: inMemory(t).Store, down: true}
	p := newProvider(t, newManager(store), nil)
	_, err := p.Load(t.Context(), tokencache.Name{Owner: "owner", Partition: "partition"})
	if !errors.Is(err, errBroken) || err.Error() != "session: the tokens could not be read: the session store fails" {
		t.Error("what the store says is in the error, or lost")
	}
	if p.Capabilities().Pinger.Ping(t.Context()) == nil {
		t.Error("a store that fails answers")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Load(ctx, tokencache.Name{}); !errors.Is(err, context.Canceled) || errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("the end of a context: %v", err)
	}
}
