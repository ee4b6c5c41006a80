package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A user signs out everywhere on one machine, while a refresh, a sign-in in
// another browser and the creation of a partition on behalf of the user are at the
// server, on three other machines. Whatever moment it comes, the user is then
// signed out on all of them, and can sign in again at once.
func TestSignOutEverywhereInAHundredMoments(t *testing.T) {
	t.Parallel()
	const rounds, slow = 100, 600 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		provider := newProvider(t)
		var nodes []*tokencache.Cache
		for range 4 {
			nodes = append(nodes, newCache(t, provider, nil))
		}
		refused := 0
		for i := range rounds {
			r := everywhere{user: fmt.Sprint("user-", i), nodes: nodes, a: newAuthority(), slow: slow}
			refused += r.run(t)
		}
		if refused < rounds {
			t.Errorf("%d of %d were caught in flight: the test looks at little", refused, 3*rounds)
		}
	})
}

// everywhere is one such sign-out.
type everywhere struct {
	user  string
	nodes []*tokencache.Cache
	a     *authority
	slow  time.Duration // what the server takes for an answer
}

// run returns how many of those in flight were refused.
func (r *everywhere) run(t *testing.T) (refused int) {
	t.Helper()
	first, err := r.nodes[0].SignIn(t.Context(), r.a.signInAs(r.user, "read"))
	if err != nil {
		t.Fatal(err)
	}
	mustExpire(t, r.nodes[0].Partition(first.Key()))
	caller := tokencache.AssertionKey(mustVerify(t, r.user, "token for "+r.user))
	r.a.before = func(context.Context) error { time.Sleep(r.slow); return nil }

	var wg sync.WaitGroup
	var second tokencache.Ticket
	errs := make([]error, 3)
	wg.Go(func() { _, errs[0] = r.nodes[1].Partition(first.Key()).Token(t.Context(), request("read"), r.a) })
	wg.Go(func() {
		second, errs[1] = r.nodes[2].SignIn(t.Context(), func(ctx context.Context) (tokencache.Grant, error) {
			time.Sleep(r.slow)
			return r.a.signInAs(r.user, "read")(ctx)
		})
	})
	wg.Go(func() { _, errs[2] = r.nodes[3].Partition(caller).Token(t.Context(), request("api"), r.a) })
	time.Sleep(rand.N(r.slow + r.slow/10))
	if err := r.nodes[0].Partition(first.Key()).SignOutEverywhere(t.Context(), nil); err != nil {
		t.Fatalf("SignOutEverywhere: %v", err)
	}
	time.Sleep(time.Millisecond)                                                       // the clock of a bubble stands still by itself
	again, err := r.nodes[rand.N(4)].SignIn(t.Context(), r.a.signInAs(r.user, "read")) // while the others still wait
	if err != nil {
		t.Fatalf("signing in right after signing out: %v", err)
	}
	wg.Wait()
	for _, err := range errs {
		switch {
		case errors.Is(err, tokencache.ErrNoTokens):
			refused++
		case err != nil:
			t.Errorf("in flight: %v", err)
		}
	}
	for i, node := range r.nodes {
		keys := []tokencache.Key{first.Key(), caller}
		if errs[1] == nil {
			keys = append(keys, second.Key())
		}
		for k, key := range keys {
			if _, err := node.Partition(key).Token(t.Context(), tokencache.Request{}, nil); !errors.Is(err, tokencache.ErrNoTokens) {
				t.Errorf("node %d, key %d: still signed in (error %v)", i, k, err)
			}
		}
		mustToken(t, node.Partition(again.Key()), nil, "read")
	}
	return refused
}
