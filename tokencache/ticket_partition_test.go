package tokencache_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The ticket of a partition is that of its last sign-in.
func TestPartitionTicket(t *testing.T) {
	t.Parallel()
	a, p := newAuthority(), newProvider(t)
	cache := newCache(t, p, nil)
	byAccount := func() *tokencache.Partition { return cache.Partition(tokencache.AccountKey(account)) }
	_, err := byAccount().Ticket(t.Context())
	wantError(t, err, tokencache.ErrNoTokens)

	first := mustSignIn(t, cache, a, "read")
	for _, c := range []*tokencache.Cache{cache, newCache(t, p, nil)} {
		for _, k := range []tokencache.Key{first.Key(), tokencache.AccountKey(account)} {
			if got, err := c.Partition(k).Ticket(t.Context()); err != nil || got != first {
				t.Errorf("another ticket, or %v", err)
			}
		}
	}
	mustExpire(t, byAccount())
	mustToken(t, byAccount(), a, "read")
	if got, err := byAccount().Ticket(t.Context()); err != nil || got != first {
		t.Errorf("after a refresh: another ticket, or %v", err)
	}

	if err := byAccount().SignOut(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	_, err = byAccount().Ticket(t.Context())
	wantError(t, err, tokencache.ErrRemoved)
	second := mustSignIn(t, cache, a, "read")
	if got, err := byAccount().Ticket(t.Context()); err != nil || got != second || got == first {
		t.Errorf("signed in anew: another ticket, or %v", err)
	}
	_, err = cache.Partition(first.Key()).Ticket(t.Context())
	wantError(t, err, tokencache.ErrNoTokens)

	apart, err := cache.SignInSession(t.Context(), "session", a.signIn("read"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cache.Partition(tokencache.SessionKey(account, "session")).Ticket(t.Context()); err != nil || got != apart {
		t.Errorf("of a session: another ticket, or %v", err)
	}
}

// An outage is not a missing sign-in, and nobody signs in to an application's tokens.
func TestPartitionTicketRefuses(t *testing.T) {
	t.Parallel()
	a, p := newAuthority(), newProvider(t)
	mustSignIn(t, newCache(t, p, nil), a, "read")
	down := newCache(t, &faulty{Provider: p, load: refuseLoads}, nil)
	_, err := down.Partition(tokencache.AccountKey(account)).Ticket(t.Context())
	wantError(t, err, tokencache.ErrUnavailable)
	if _, err := down.Partition(tokencache.ApplicationKey("", "api")).Ticket(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an application's: %v", err)
	}
	if _, err := down.Partition(tokencache.AccountKey("")).Ticket(t.Context()); err == nil || errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("nobody's: %v", err)
	}
}

// What another library has written is in no generation: a ticket would open every sign-in.
func TestPartitionTicketOfAnotherLibrary(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	p := cache.Partition(tokencache.AccountKey(account))
	first := mustSignIn(t, cache, a, "read")
	if got, err := p.Ticket(t.Context()); err != nil || got != first {
		t.Errorf("another ticket, or %v", err)
	}
	doc := s.only(t)
	at := strings.Index(doc, `"coatcheck":`)
	s.put(doc[:at] + `"other":` + doc[at+len(`"coatcheck":`):])
	mustToken(t, p, nil, "read")
	_, err := p.Ticket(t.Context())
	wantError(t, err, tokencache.ErrNoTokens)
	second := mustSignIn(t, cache, a, "read")
	if got, err := p.Ticket(t.Context()); err != nil || got != second {
		t.Errorf("signed in anew: another ticket, or %v", err)
	}
}
