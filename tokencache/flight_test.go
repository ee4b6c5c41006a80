package tokencache_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The request whose flight it is goes away while the server works: the others
// are answered, and the rotated refresh token is stored.
func TestRefreshOutlivesItsRequest(t *testing.T) {
	t.Parallel()
	provider, a := newProvider(t), newAuthority()
	cache := newCache(t, provider, nil)
	ticket := mustSignIn(t, cache, a, "read")
	mustExpire(t, cache.Partition(ticket.Key()))
	entered, proceed := a.hold()

	leader, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := cache.Partition(ticket.Key()).Token(leader, tokencache.Request{Scopes: []string{"read"}}, a)
		left <- err
	}()
	<-entered
	follower := make(chan error)
	go func() {
		_, err := cache.Partition(ticket.Key()).Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
		follower <- err
	}()
	leave()
	wantError(t, <-left, context.Canceled)
	close(proceed)
	if err := <-follower; err != nil {
		t.Errorf("the follower failed with the leader: %v", err)
	}
	a.wantRefreshes(t, 1)

	a.before = nil
	mustExpire(t, cache.Partition(ticket.Key()))
	mustToken(t, cache.Partition(ticket.Key()), a, "read")
	a.wantRefreshes(t, 2) // with the rotated token: reuse would have been seen
}

// Whoever joins a flight that has already saved, after having changed the
// partition itself, is not answered with the token from before.
func TestJoiningAFlightThatWasOvertaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		saved, proceed := make(chan struct{}), make(chan struct{})
		var once sync.Once
		cache := newCache(t, newProvider(t), &tokencache.Options{AfterAccess: func(_ context.Context, access *tokencache.Access) error {
			if access.Source == tokencache.SourceServer && access.Scopes != nil { // a refresh
				once.Do(func() { close(saved); <-proceed })
			}
			return nil
		}})
		ticket := mustSignIn(t, cache, a, "other")
		ask := func() <-chan tokencache.Secret {
			answer := make(chan tokencache.Secret, 1)
			go func() {
				tok, err := cache.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
				if err != nil {
					t.Error(err)
				}
				answer <- tok.AccessToken
			}()
			return answer
		}
		first := ask()
		<-saved
		before := mustToken(t, cache.Partition(ticket.Key()), nil, "read").AccessToken
		mustExpire(t, cache.Partition(ticket.Key()))
		second := ask()
		synctest.Wait() // it has joined the first
		a.wantRefreshes(t, 1)
		close(proceed)
		if <-second == before {
			t.Error("answered with the token from before Expire")
		}
		<-first
		a.wantRefreshes(t, 2)
	})
}

// The time a flight waits for its turn must not be taken from the call to the
// server, which has rotated the refresh token by the time it is cut off.
func TestQueueingDoesNotCutOffTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		cache := newCache(t, newProvider(t), nil)
		ticket := mustSignIn(t, cache, a, "read")
		a.answer = func(ctx context.Context, g tokencache.Grant) (tokencache.Grant, error) {
			select {
			case <-time.After(8 * time.Second):
				return g, nil
			case <-ctx.Done():
				return tokencache.Grant{}, &tokencache.ServerError{Err: ctx.Err()}
			}
		}
		together(4, func(i int) { // the last has its turn after 24 of 30 seconds
			_, err := cache.Partition(ticket.Key()).Token(t.Context(), request(fmt.Sprint("scope", i)), a)
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
		mustToken(t, cache.Partition(ticket.Key()), a, "later")
		a.wantRefreshes(t, 5)
	})
}

// A flight may go on after Token has returned, when the slice is the caller's
// again: changing it must not store the token under other scopes.
func TestFlightKeepsItsScopes(t *testing.T) {
	t.Parallel()
	provider, a := newProvider(t), newAuthority()
	cache := newCache(t, provider, nil)
	ticket := mustSignIn(t, cache, a, "other")
	entered, proceed := make(chan struct{}), make(chan struct{})
	server := serverFunc(func(_ context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
		g, err := a.rotate(rt, slices.Clone(req.Scopes))
		g.Scopes = nil // as requested
		close(entered)
		<-proceed
		return g, err
	})
	scopes := []string{"read"}
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-entered; leave() }()
	_, err := cache.Partition(ticket.Key()).Token(ctx, request(scopes...), server)
	wantError(t, err, context.Canceled)
	scopes[0] = "admin"
	close(proceed)
	if err := cache.Close(t.Context()); err != nil { // the flight has landed
		t.Fatal(err)
	}
	p := newCache(t, provider, nil).Partition(ticket.Key())
	mustToken(t, p, nil, "read")
	_, err = p.Token(t.Context(), request("admin"), nil)
	wantError(t, err, tokencache.ErrNoTokens)
}

// A panic in what the application has plugged in is raised where it can be
// recovered, and leaves no lock, lease or load behind.
func TestPanicsReachTheCaller(t *testing.T) {
	t.Parallel()
	for name, arm := range map[string]func(*faulty, *authority){
		"in the client": func(_ *faulty, a *authority) {
			a.before = func(context.Context) error { panic("in the client") }
		},
		"in a load": func(p *faulty, _ *authority) {
			p.set(func(context.Context, tokencache.Name) (tokencache.Record, error) { panic("in a load") }, nil)
		},
		"in a save": func(p *faulty, _ *authority) {
			p.set(nil, func(context.Context, tokencache.Name, tokencache.Record, tokencache.Condition) error {
				panic("in a save")
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
			cache := newCache(t, provider, noCopies(tokencache.Options{}))
			ticket := mustSignIn(t, cache, a, "other")
			arm(provider, a)
			func() {
				defer func() {
					if r := recover(); r != name {
						t.Errorf("recovered %v", r)
					}
				}()
				_, _ = cache.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
			}()
			provider.set(nil, nil)
			a.before = nil
			mustToken(t, cache.Partition(ticket.Key()), a.lenient(), "other")
			mustToken(t, cache.Partition(ticket.Key()), a, "read")
		})
	}
}
