package tokencache_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

var application = tokencache.ApplicationKey("", "api://tasks")

// renewals are the errors of the refreshes behind requests, so far.
func (l *log) renewals() (errs []error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == tokencache.EventUpkeep && e.Detail == "renewed" {
			errs = append(errs, e.Err)
		}
	}
	return errs
}

// An application's token within the margin is served at once, on two machines, and
// replaced behind the requests by one of them.
func TestApplicationTokensAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		store, a := newProvider(t), newAuthority()
		caches := []*tokencache.Cache{
			newCache(t, store, &tokencache.Options{Events: events.add}), newCache(t, store, &tokencache.Options{Events: events.add}),
		}
		first := mustToken(t, caches[0].Partition(application), a, "read")
		mustToken(t, caches[1].Partition(application), a, "read")
		a.before = func(context.Context) error { time.Sleep(10 * time.Second); return nil }
		time.Sleep(56 * time.Minute) // within the margin
		began := time.Now()
		together(64, func(i int) {
			if tok := mustToken(t, caches[i%2].Partition(application), a, "read"); tok.AccessToken != first.AccessToken {
				t.Error("another token is served while it is refreshed")
			}
		})
		if waited := time.Since(began); waited != 0 {
			t.Errorf("they waited for %v", waited)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		for _, c := range caches {
			tok := mustToken(t, c.Partition(application), nil, "read")
			if tok.AccessToken == first.AccessToken || time.Until(tok.Expires) < 59*time.Minute {
				t.Error("the token has not been replaced")
			}
		}
		a.wantRefreshes(t, 2)
		if got := events.renewals(); !slices.Equal(got, []error{nil, nil}) {
			t.Errorf("the renewals of two machines: %v", got)
		}
	})
}

// The time that the server names counts, though the margin is far.
func TestApplicationTokensAtRefreshOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		a.lifetime = 24 * time.Hour
		a.answer = func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
			g.RefreshOn = time.Now().Add(12 * time.Hour)
			return g, nil
		}
		p := newCache(t, newProvider(t), nil).Partition(application)
		first := mustToken(t, p, a, "read")
		time.Sleep(12*time.Hour - time.Minute)
		mustToken(t, p, a, "read")
		a.wantRefreshes(t, 1)
		time.Sleep(2 * time.Minute)
		if mustToken(t, p, a, "read").AccessToken != first.AccessToken {
			t.Error("it was waited for")
		}
		synctest.Wait()
		a.wantRefreshes(t, 2)
		if mustToken(t, p, a, "read").AccessToken == first.AccessToken {
			t.Error("the token has not been replaced")
		}
		a.wantRefreshes(t, 2)
	})
}

// What goes wrong behind the requests harms none of them, is told, and is not repeated
// for each of them.
func TestApplicationTokensAheadFail(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		err   error
		most  int64 // times the server is asked within the minute
		panic bool
	}{
		"the server is down":        {err: &tokencache.ServerError{Err: errors.New("503")}, most: 13},
		"for a while":               {err: &tokencache.ServerError{RetryAfter: 20 * time.Second, Err: errors.New("429")}, most: 4},
		"the server does not agree": {err: errors.New("the secret has expired"), most: 13},
		"a bug":                     {panic: true, most: 13},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var events log
				a := newAuthority()
				p := newCache(t, newProvider(t), &tokencache.Options{Events: events.add}).Partition(application)
				first := mustToken(t, p, a, "read")
				a.before = func(context.Context) error {
					if fault.panic {
						panic("a bug")
					}
					return fault.err
				}
				time.Sleep(56 * time.Minute)
				for range 600 {
					if mustToken(t, p, a, "read").AccessToken != first.AccessToken {
						t.Error("another token")
					}
					time.Sleep(100 * time.Millisecond)
				}
				asked := a.refreshes.Load() - 1
				if asked < 2 || asked > fault.most {
					t.Errorf("the server was asked %d times, want 2 to %d", asked, fault.most)
				}
				for _, err := range events.renewals() {
					if err == nil || fault.err != nil && !errors.Is(err, fault.err) {
						t.Errorf("the event tells of %v", err)
					}
				}
				if n := int64(len(events.renewals())); n != asked {
					t.Errorf("%d events of %d attempts", n, asked)
				}
				time.Sleep(2*time.Minute + 45*time.Second) // 15 seconds are left
				if fault.panic {
					return // it is waited for, and would panic here
				}
				if mustToken(t, p, a, "read").AccessToken != first.AccessToken {
					t.Error("nothing is served in the end")
				}
			})
		})
	}
}

// A token that ends in a moment is of no use to who has to present it yet, and one that
// an API has refused to nobody.
func TestApplicationTokensThatAreWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		p := newCache(t, newProvider(t), nil).Partition(application)
		first := mustToken(t, p, a, "read")
		time.Sleep(56 * time.Minute)
		tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}, Refused: first.AccessToken}, a)
		if err != nil || tok.AccessToken == first.AccessToken {
			t.Errorf("a refused token: %v", err)
		}
		time.Sleep(56 * time.Minute)
		older := tok
		tok, err = p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}, Refused: first.AccessToken}, a)
		if err != nil || tok.AccessToken == older.AccessToken {
			t.Errorf("another one that was refused: %v", err)
		}
		time.Sleep(time.Hour - 20*time.Second)
		if again := mustToken(t, p, a, "read"); again.AccessToken == tok.AccessToken {
			t.Error("a token of 20 seconds is served")
		}
		a.wantRefreshes(t, 4)
	})
}

// A server that sends the same token again, as some do until shortly before its end, is
// not asked by each request.
func TestApplicationTokensThatTheServerKeeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		p := newCache(t, newProvider(t), nil).Partition(application)
		first := mustToken(t, p, a, "read")
		a.answer = func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
			g.AccessToken, g.Expires = first.AccessToken, first.Expires
			return g, nil
		}
		time.Sleep(56 * time.Minute)
		for range 100 {
			mustToken(t, p, a, "read")
			time.Sleep(100 * time.Millisecond)
		}
		if asked := a.refreshes.Load() - 1; asked < 1 || asked > 3 {
			t.Errorf("the server was asked %d times", asked)
		}
	})
}

// The store is down, for a user's token that is a reason to wait; for the
// application's, neither the request nor the refresh needs it.
func TestApplicationTokensAheadWithoutAStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, faults := newAuthority(), providertest.NewFaults(newProvider(t))
		p := newCache(t, faults, &tokencache.Options{L1MaxAge: 2 * time.Hour}).Partition(application)
		first := mustToken(t, p, a, "read")
		time.Sleep(56 * time.Minute)
		faults.Set(providertest.Down())
		if mustToken(t, p, a, "read").AccessToken != first.AccessToken {
			t.Error("another token")
		}
		time.Sleep(2 * time.Second)
		if mustToken(t, p, a, "read").AccessToken == first.AccessToken {
			t.Error("the token has not been replaced")
		}
		a.wantRefreshes(t, 2)
		faults.Clear()
	})
}

// A user's token, and one on behalf of somebody, is waited for as before.
func TestUsersTokensAreNotRefreshedAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		cache := newCache(t, newProvider(t), nil)
		user := cache.Partition(mustSignIn(t, cache, a, "read").Key())
		first := mustToken(t, user, a, "read")
		time.Sleep(56 * time.Minute)
		if mustToken(t, user, a, "read").AccessToken == first.AccessToken {
			t.Error("the old token was served")
		}
	})
}

// Close waits for what is refreshed behind requests, and nothing begins after it.
func TestCloseWaitsForTokensAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events log
		store, a := newProvider(t), newAuthority()
		cache := newCache(t, store, &tokencache.Options{Events: events.add, L1MaxAge: 2 * time.Hour})
		p := cache.Partition(application)
		first := mustToken(t, p, a, "read")
		time.Sleep(56 * time.Minute)
		entered, proceed := a.hold()
		mustToken(t, p, a, "read")
		<-entered
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := cache.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if len(events.renewals()) != 1 {
				t.Error("Close has not waited for the refresh")
			}
		})
		synctest.Wait()
		mustToken(t, p, a, "read") // while it closes
		close(proceed)
		wg.Wait()
		a.before = nil
		a.wantRefreshes(t, 2)
		if mustToken(t, newCache(t, store, nil).Partition(application), nil, "read").AccessToken == first.AccessToken {
			t.Error("the new token is lost")
		}
	})
}
