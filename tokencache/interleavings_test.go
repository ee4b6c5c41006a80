package tokencache_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Two users at two machines, who sign in and out while requests run, with a slow
// store that loses replies: whatever the order, nobody is served after signing
// out or with another's token, and no refresh token is used twice.
func TestInterleavings(t *testing.T) {
	t.Parallel()
	const lasts = 2 * time.Second
	provider := newProvider(t)
	var caches []*tokencache.Cache
	for range 2 {
		caches = append(caches, newCache(t, shaky(provider), &tokencache.Options{L1MaxAge: 5 * time.Millisecond}))
	}
	together(len(testUsers), func(i int) {
		u, a, served := testUsers[i], newAuthority(), int64(0)
		for stop := time.Now().Add(lasts); time.Now().Before(stop) && !t.Failed(); {
			served += u.session(t, caches, a)
		}
		if served == 0 || a.refreshes.Load() == 0 {
			t.Errorf("%s: %d tokens were served, %d refreshed: the test looks at nothing", u.name, served, a.refreshes.Load())
		}
		a.wantRefreshes(t, a.refreshes.Load()) // none was reused
	})
}

type testUser struct {
	name    string
	signOut func(*tokencache.Partition, context.Context, tokencache.Server) error
}

var testUsers = []testUser{
	{"alice", (*tokencache.Partition).SignOut},
	{"bob", (*tokencache.Partition).SignOutEverywhere},
}

// shaky is the provider over a network.
func shaky(p tokencache.Provider) *faulty {
	pause := func() {
		if rand.N(3) == 0 {
			time.Sleep(rand.N(time.Millisecond))
		}
	}
	f := &faulty{Provider: p}
	f.set(func(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
		r, err := p.Load(ctx, n)
		pause()
		return r, err
	}, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		pause()
		err := p.Save(ctx, n, r, c)
		pause()
		if rand.N(20) == 0 {
			return errors.New("the reply was lost")
		}
		return err
	})
	return f
}

// session is one sign-in with its requests and its sign-out. It returns how many
// tokens were served.
func (u testUser) session(t *testing.T, caches []*tokencache.Cache, a *authority) int64 {
	ticket, err := caches[0].SignIn(t.Context(), a.signInAs(u.name, "a"))
	if err != nil {
		t.Errorf("SignIn: %v", err)
		return 0
	}
	var out atomic.Bool // SignOut has returned
	var served atomic.Int64
	var requests sync.WaitGroup
	shared := []*tokencache.Partition{caches[0].Partition(ticket.Key()), caches[1].Partition(ticket.Key())}
	for i := range 6 {
		requests.Go(func() {
			for k := range 12 {
				p := shared[i%2]
				if k%2 == 0 {
					p = caches[i%2].Partition(ticket.Key())
				}
				after := out.Load()
				tok, err := p.Token(t.Context(), request([]string{"a", "b", "c"}[rand.N(3)]), a)
				switch {
				case err == nil && after:
					t.Errorf("served from %v after the sign-out", tok.Source)
				case err == nil && !strings.Contains(string(tok.AccessToken), u.name):
					t.Errorf("%s was served another's token, or none", u.name)
				case err == nil:
					served.Add(1)
				case errors.Is(err, tokencache.ErrInvalidGrant) || !errors.Is(err, tokencache.ErrNoTokens):
					t.Errorf("Token: %v", err)
				}
				if rand.N(8) == 0 {
					_ = p.Expire(t.Context())
				}
			}
		})
	}
	time.Sleep(rand.N(8 * time.Millisecond))
	p := caches[rand.N(2)].Partition(ticket.Key())
	for err := errRefused; err != nil && !t.Failed(); { // it can be repeated
		err = u.signOut(p, t.Context(), nil)
	}
	out.Store(true)
	requests.Wait()
	return served.Load()
}
