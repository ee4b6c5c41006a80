package tokencache_test

import (
	"context"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Two browsers of one user whose tokens are kept apart, and one whose are not: each
// refreshes, and is signed out, by itself; all of them end together when the account
// is signed out everywhere.
func TestSignInSession(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	provider := newProvider(t)
	caches := []*tokencache.Cache{newCache(t, provider, nil), newCache(t, provider, nil)}
	shared := mustSignIn(t, caches[0], a, "read")
	apart := make([]tokencache.Ticket, 2)
	for i, session := range []string{"marker-first", "marker-second"} {
		ticket, err := caches[i].SignInSession(t.Context(), session, a.signIn("read"))
		if err != nil {
			t.Fatal(err)
		}
		if apart[i], err = tokencache.ParseTicket(ticket.Encode()); err != nil || apart[i] != ticket {
			t.Fatalf("the ticket is not what its text says: %v", err)
		}
	}
	seen := map[tokencache.Secret]bool{}
	for _, ticket := range append(apart, shared) {
		p := caches[0].Partition(ticket.Key())
		mustExpire(t, p)
		seen[mustToken(t, p, a, "read").AccessToken] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d tokens for three partitions", len(seen))
	}
	a.wantRefreshes(t, 3)

	// Another sign-in into a session that is in use joins it.
	again, err := caches[1].SignInSession(t.Context(), "marker-first", a.signIn("read"))
	if err != nil || again != apart[0] {
		t.Errorf("signing in again: error %v, or another ticket", err)
	}
	if err := caches[1].Partition(apart[0].Key()).SignOut(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wantError(t, caches[0].Partition(apart[0].Key()).Check(t.Context()), tokencache.ErrRemoved)
	for _, ticket := range []tokencache.Ticket{apart[1], shared} {
		mustToken(t, caches[0].Partition(ticket.Key()), nil, "read")
	}
	if err := caches[1].Partition(shared.Key()).SignOutEverywhere(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, ticket := range append(apart, shared) {
		wantError(t, caches[0].Partition(ticket.Key()).Check(t.Context()), tokencache.ErrRemoved)
	}
}

// Nothing is asked of the server for a session without a name, which would be
// everybody's.
func TestSignInSessionWithoutName(t *testing.T) {
	t.Parallel()
	_, err := newCache(t, newProvider(t), nil).SignInSession(t.Context(), "", func(context.Context) (tokencache.Grant, error) {
		t.Error("the server was asked")
		return tokencache.Grant{}, nil
	})
	if err == nil {
		t.Error("accepted")
	}
}
