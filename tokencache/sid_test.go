package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// from signs in from a session at the server.
func (a *authority) from(sid, who string, scopes ...string) func(context.Context) (tokencache.Grant, error) {
	exchange := a.signInAs(who, scopes...)
	return func(ctx context.Context) (tokencache.Grant, error) {
		g, err := exchange(ctx)
		g.SID = sid
		return g, err
	}
}

// arrive signs in from a session at the server, into a session of the application's if
// that has a name.
func arrive(t testing.TB, c *tokencache.Cache, a *authority, sid, who, session string) tokencache.Ticket {
	t.Helper()
	var ticket tokencache.Ticket
	var err error
	if session == "" {
		ticket, err = c.SignIn(t.Context(), a.from(sid, who, "read"))
	} else {
		ticket, err = c.SignInSession(t.Context(), session, a.from(sid, who, "read"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func endSID(t testing.TB, c *tokencache.Cache, sid string, server tokencache.Server) bool {
	t.Helper()
	known, err := c.SignOutSID(t.Context(), sid, func(*tokencache.Partition) tokencache.Server { return server })
	if err != nil {
		t.Fatal(err)
	}
	return known
}

func wantSignedIn(t testing.TB, c *tokencache.Cache, ticket tokencache.Ticket, want bool) {
	t.Helper()
	if err := c.Partition(ticket.Key()).Check(t.Context()); (err == nil) != want || err != nil && !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("signed in: %v, want %v", err, want)
	}
}

// A session at the server ends on another machine than those that know its sign-ins:
// what is kept apart ends alone, and what is shared ends as a whole.
func TestSignOutSID(t *testing.T) {
	t.Parallel()
	provider, a := newProvider(t), newAuthority()
	caches := []*tokencache.Cache{newCache(t, provider, nil), newCache(t, provider, nil)}
	first := arrive(t, caches[0], a, "sid-1", account, "marker-first")
	second := arrive(t, caches[1], a, "sid-1", account, "marker-second")
	third := arrive(t, caches[0], a, "sid-2", account, "marker-third")
	shared := arrive(t, caches[0], a, "sid-3", account, "")
	joined := arrive(t, caches[1], a, "sid-4", account, "")
	other := arrive(t, caches[0], a, "sid-5", "somebody else", "")
	for _, ticket := range []tokencache.Ticket{first, second, third, shared, joined, other} { // copies
		wantSignedIn(t, caches[0], ticket, true)
	}

	if endSID(t, caches[1], "sid-9", a) {
		t.Error("a session that nobody came from is known")
	}
	if !endSID(t, caches[1], "sid-1", a) {
		t.Error("the session is not known")
	}
	if got := a.revokes.Load(); got != 2 {
		t.Errorf("%d refresh tokens were revoked, want 2", got)
	}
	for ticket, want := range map[tokencache.Ticket]bool{first: false, second: false, third: true, shared: true, other: true} {
		wantSignedIn(t, caches[0], ticket, want)
	}
	if !endSID(t, caches[0], "sid-3", nil) {
		t.Error("the session is not known")
	}
	for ticket, want := range map[tokencache.Ticket]bool{third: true, shared: false, joined: false, other: true} {
		wantSignedIn(t, caches[1], ticket, want)
	}

	// Whoever has signed in since is not concerned, when it is told once more, nor is
	// another session's.
	again := arrive(t, caches[0], a, "sid-6", account, "")
	for _, sid := range []string{"sid-3", "sid-4", "sid-1"} {
		endSID(t, caches[1], sid, a)
	}
	wantSignedIn(t, caches[0], again, true)
	// From the session itself too: some servers go on with it.
	anew := arrive(t, caches[1], a, "sid-3", account, "marker-anew")
	wantSignedIn(t, caches[0], anew, true)
	endSID(t, caches[0], "sid-3", a)
	wantSignedIn(t, caches[1], anew, false)
	wantSignedIn(t, caches[1], again, true)
}

// The end comes while somebody signs in from the session, whether or not it is known.
func TestSignOutSIDDuringASignIn(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"known": true, "not known": false} {
		for kind, session := range map[string]string{"shared": "", "apart": "marker-session"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					provider, a := newProvider(t), newAuthority()
					cache, other := newCache(t, provider, nil), newCache(t, provider, nil)
					if known {
						arrive(t, other, a, "sid", account, "marker-other")
					}
					exchange := func(ctx context.Context) (tokencache.Grant, error) {
						time.Sleep(time.Second)
						if got := endSID(t, other, "sid", nil); got != known {
							t.Errorf("known: %v", got)
						}
						return a.from("sid", account, "read")(ctx)
					}
					var err error
					if session == "" {
						_, err = cache.SignIn(t.Context(), exchange)
					} else {
						_, err = cache.SignInSession(t.Context(), session, exchange)
					}
					wantError(t, err, tokencache.ErrRemoved)
					key := tokencache.AccountKey(account)
					if session != "" {
						key = tokencache.SessionKey(account, session)
					}
					wantError(t, other.Partition(key).Check(t.Context()), tokencache.ErrRemoved)
					time.Sleep(time.Second)
					wantSignedIn(t, cache, arrive(t, cache, a, "sid", account, session), true)
				})
			})
		}
	}
}

// Sign-ins from one session on many machines at once are all noted, and no more of them
// than there is room for: the oldest end.
func TestSignInsOfOneSID(t *testing.T) {
	t.Parallel()
	provider, a := newProvider(t), newAuthority()
	caches := []*tokencache.Cache{newCache(t, provider, nil), newCache(t, provider, nil)}
	tickets := make([]tokencache.Ticket, 6)
	together(len(tickets), func(i int) {
		tickets[i] = arrive(t, caches[i%2], a, "sid", account, fmt.Sprint("marker-", i))
	})
	for i := range 32 - len(tickets) {
		tickets = append(tickets, arrive(t, caches[i%2], a, "sid", account, fmt.Sprint("marker-later-", i)))
	}
	for _, ticket := range tickets {
		wantSignedIn(t, caches[0], ticket, true)
	}
	tickets = append(tickets, arrive(t, caches[0], a, "sid", account, "marker-last"))
	ended := 0
	for _, ticket := range tickets[:6] {
		if caches[1].Partition(ticket.Key()).Check(t.Context()) != nil {
			ended++
		}
	}
	if ended != 1 {
		t.Errorf("%d of the oldest have ended, want 1", ended)
	}
	for range 40 { // the same one again takes no room
		arrive(t, caches[0], a, "sid", account, "marker-last")
	}
	wantSignedIn(t, caches[1], tickets[20], true)
	endSID(t, caches[1], "sid", nil)
	for _, ticket := range tickets {
		wantSignedIn(t, caches[1], ticket, false)
	}
}

// What is kept of a session ends with the tokens that came from it.
func TestSIDsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, a := newProvider(t), newAuthority()
		cache := newCache(t, store, &tokencache.Options{AbsoluteTimeout: 10 * time.Hour})
		arrive(t, cache, a, "sid", account, "marker-1")
		time.Sleep(9 * time.Hour)
		arrive(t, cache, a, "sid", account, "marker-2")
		shorter := newCache(t, store, &tokencache.Options{AbsoluteTimeout: time.Hour})
		arrive(t, shorter, a, "sid", account, "marker-3")
		for range 3 { // being ended does not change that
			time.Sleep(3 * time.Hour)
			if !endSID(t, cache, "sid", nil) {
				t.Error("it is forgotten too early")
			}
		}
		time.Sleep(90 * time.Minute)
		if endSID(t, cache, "sid", nil) {
			t.Error("it is not forgotten")
		}
	})
}

// A sign-in that could not be noted is not completed: its session's end would be missed.
func TestSIDsInAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		cache := newCache(t, faults, &tokencache.Options{Events: events.add})
		var saves int
		faults.Set(func(context.Context, *providertest.Call) error {
			if saves++; saves > 1 {
				return errRefused
			}
			return nil
		}, providertest.OpSave)
		_, err := cache.SignIn(t.Context(), a.from("sid", account, "read"))
		wantError(t, err, tokencache.ErrUnavailable)
		for _, e := range events.events {
			if e.Kind == tokencache.EventSignIn && !errors.Is(e.Err, tokencache.ErrUnavailable) {
				t.Errorf("the event tells of %v", e.Err)
			}
		}
		if _, err := cache.SignOutSID(t.Context(), "sid", nil); !errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("it has ended: %v", err)
		}
		faults.Clear()
		time.Sleep(time.Second)
		ticket := arrive(t, cache, a, "sid", account, "")
		faults.Set(providertest.Down(), providertest.OpSave)
		if _, err := cache.SignOutSID(t.Context(), "sid", nil); !errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("it has ended: %v", err)
		}
		faults.Clear()
		time.Sleep(time.Second)
		endSID(t, cache, "sid", nil)
		wantSignedIn(t, cache, ticket, false)
	})
}

// A reply that is lost costs nothing.
func TestSIDsWhoseReplyIsLost(t *testing.T) {
	t.Parallel()
	a, store := newAuthority(), newProvider(t)
	provider := &faulty{Provider: store}
	var mu sync.Mutex
	lost := map[tokencache.Name]bool{}
	provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		mu.Lock()
		defer mu.Unlock()
		err := store.Save(ctx, n, r, c)
		if !lost[n] {
			lost[n] = true
			return errRefused
		}
		return err
	})
	cache := newCache(t, provider, nil)
	ticket := arrive(t, cache, a, "sid", account, "")
	if !endSID(t, newCache(t, store, nil), "sid", nil) {
		t.Error("the session is not known")
	}
	wantSignedIn(t, newCache(t, store, nil), ticket, false)
}

// Nothing about the session or the account can be read in what is stored of it, nor
// found with another one.
func TestSIDsTellNothing(t *testing.T) {
	t.Parallel()
	a, store := newAuthority(), newProvider(t)
	provider := &faulty{Provider: store}
	var mu sync.Mutex
	owners := map[string]int{}
	provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		mu.Lock()
		defer mu.Unlock()
		owners[n.Owner]++
		for _, text := range []string{n.Owner, n.Partition, string(r.Sealed)} {
			for _, secret := range []string{"sid-1", account, "marker", "coatcheck_session"} {
				if strings.Contains(text, secret) {
					t.Errorf("%q is stored as it is", secret)
				}
			}
		}
		if r.Expires.IsZero() {
			t.Error("a record is stored for ever")
		}
		return store.Save(ctx, n, r, c)
	})
	cache := newCache(t, provider, &tokencache.Options{Keys: newKeys(t)})
	ticket := arrive(t, cache, a, "sid-1", account, "marker-session")
	arrive(t, cache, a, "sid-2", account, "marker-session")
	if len(owners) != 3 {
		t.Errorf("%d owners, want the account and two sessions", len(owners))
	}
	list, err := cache.Partition(ticket.Key()).Holdings(t.Context())
	if err != nil || len(list) != 1 {
		t.Errorf("%d partitions of the account, %v", len(list), err)
	}
	if endSID(t, cache, "sid", nil) || endSID(t, cache, "sid-1 ", nil) || !endSID(t, cache, "sid-1", nil) {
		t.Error("another session is known, or this is not")
	}
}

// Where sessions could not be found again, none are noted, and nobody is told that they
// have ended.
func TestSIDsWithoutIndex(t *testing.T) {
	t.Parallel()
	a, provider := newAuthority(), &faulty{Provider: newProvider(t), hide: func(c *tokencache.Capabilities) { c.Owners = nil }}
	cache := newCache(t, provider, nil)
	ticket := arrive(t, cache, a, "sid", account, "")
	if got := provider.saves.Load(); got != 1 {
		t.Errorf("%d saves", got)
	}
	if _, err := cache.SignOutSID(t.Context(), "sid", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	wantSignedIn(t, cache, ticket, true)
	if _, err := newCache(t, newProvider(t), nil).SignOutSID(t.Context(), "", nil); err == nil {
		t.Error("a session without a name is accepted")
	}
}

// clumsy panics where it is told that a token is over.
type clumsy struct{ *authority }

func (clumsy) Revoke(context.Context, tokencache.Secret) error { panic("a bug") }

// What is plugged in may panic: the rest of the session ends all the same, and so does
// not the program.
func TestSignOutSIDWithABug(t *testing.T) {
	t.Parallel()
	c, a := newCache(t, newProvider(t), nil), newAuthority()
	tickets := []tokencache.Ticket{
		arrive(t, c, a, "sid", account, "marker-first"), arrive(t, c, a, "sid", account, "marker-second"),
	}
	known, err := c.SignOutSID(t.Context(), "sid", func(*tokencache.Partition) tokencache.Server { return clumsy{a} })
	if !known || err == nil {
		t.Errorf("known: %v, %v", known, err)
	}
	for _, ticket := range tickets {
		wantSignedIn(t, c, ticket, false)
	}
}
