package tokencache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestSignInTokenSignOut(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	ticket := mustSignIn(t, cache, a, "openid", "read")
	if ticket.Account() != account {
		t.Errorf("the ticket is another account's")
	}
	p := cache.Partition(ticket.Key())
	if tok := mustToken(t, p, nil, "READ"); tok.Source != tokencache.SourceL1 || tok.Type != "Bearer" {
		t.Errorf("got %+v, want a bearer token from l1", tok)
	}
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := p.SignOut(t.Context(), a); err != nil {
		t.Fatalf("SignOut: %v", err)
	}
	if got := a.revokes.Load(); got != 1 {
		t.Errorf("%d refresh tokens were revoked, want 1", got)
	}
	for _, p := range []*tokencache.Partition{p, cache.Partition(ticket.Key()), cache.Partition(tokencache.AccountKey(account))} {
		_, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
		wantError(t, err, tokencache.ErrRemoved)
		wantError(t, p.Check(t.Context()), tokencache.ErrNoTokens)
	}
	a.wantRefreshes(t, 0)
	if err := p.SignOut(t.Context(), a); err != nil {
		t.Errorf("signing out twice: %v", err)
	}
}

// An old cookie stays signed out when the same user signs in again.
func TestTicketsOfAnEarlierSignIn(t *testing.T) {
	t.Parallel()
	for name, signOut := range map[string]func(*tokencache.Partition, *authority) error{
		"sign out":            func(p *tokencache.Partition, a *authority) error { return p.SignOut(t.Context(), a) },
		"sign out everywhere": func(p *tokencache.Partition, a *authority) error { return p.SignOutEverywhere(t.Context(), a) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority()
			cache := newCache(t, newProvider(t), nil)
			old := mustSignIn(t, cache, a, "read")
			oldPartition := cache.Partition(old.Key())
			if err := signOut(oldPartition, a); err != nil {
				t.Fatal(err)
			}
			ticket := mustSignIn(t, cache, a, "read")
			if ticket == old {
				t.Fatal("the new sign-in has the generation of the old one")
			}
			mustToken(t, cache.Partition(ticket.Key()), nil, "read")
			for _, p := range []*tokencache.Partition{oldPartition, cache.Partition(old.Key())} {
				_, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
				wantError(t, err, tokencache.ErrNoTokens)
				wantError(t, p.Check(t.Context()), tokencache.ErrNoTokens)
				wantError(t, p.Expire(t.Context()), tokencache.ErrNoTokens)
				if _, err := p.Tokens(t.Context()); !errors.Is(err, tokencache.ErrNoTokens) {
					t.Errorf("Tokens: %v", err)
				}
				// and it has no say over the new one
				if err := p.SignOut(t.Context(), a); err != nil {
					t.Errorf("SignOut: %v", err)
				}
				wantError(t, p.SignOutEverywhere(t.Context(), a), tokencache.ErrNoTokens)
			}
			mustToken(t, cache.Partition(ticket.Key()), nil, "read")
			a.wantRefreshes(t, 0)
		})
	}
}

// The browsers of one user share a partition; the ticket of each opens it.
func TestSecondBrowser(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	first, second := mustSignIn(t, cache, a, "read"), mustSignIn(t, cache, a, "write")
	if first != second {
		t.Error("the second sign-in changed the generation: the first browser is signed out")
	}
	mustToken(t, cache.Partition(first.Key()), nil, "write")
	mustToken(t, cache.Partition(second.Key()), nil, "read")
}

// A refresh that is at the server when its user signs out does not bring the
// tokens back, on this machine or another.
func TestSignOutDuringRefresh(t *testing.T) {
	t.Parallel()
	for name, everywhere := range map[string]bool{"sign out": false, "everywhere": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider, a := newProvider(t), newAuthority()
			one, two := newCache(t, provider, nil), newCache(t, provider, nil)
			ticket := mustSignIn(t, one, a, "read")
			mustExpire(t, one.Partition(ticket.Key()))
			entered, proceed := a.hold()
			refreshed := make(chan error)
			go func() {
				_, err := one.Partition(ticket.Key()).Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
				refreshed <- err
			}()
			<-entered
			signOut := two.Partition(ticket.Key()).SignOut
			if everywhere {
				signOut = two.Partition(ticket.Key()).SignOutEverywhere
			}
			if err := signOut(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			close(proceed)
			wantError(t, <-refreshed, tokencache.ErrRemoved)
			for _, c := range []*tokencache.Cache{one, two, newCache(t, provider, nil)} {
				wantError(t, c.Partition(ticket.Key()).Check(t.Context()), tokencache.ErrRemoved)
			}
			a.before = nil
			again := mustSignIn(t, one, a, "read") // at once
			mustToken(t, two.Partition(again.Key()), nil, "read")
		})
	}
}

// A sign-in that is at the server when its user signs out everywhere is refused,
// also if it is the account's first, so that nothing is there to be removed.
func TestSignOutEverywhereDuringSignIn(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"first sign-in": true, "second browser": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider, a := newProvider(t), newAuthority()
			one, two := newCache(t, provider, nil), newCache(t, provider, nil)
			if !first {
				mustSignIn(t, two, a, "read")
			}
			_, err := one.SignIn(t.Context(), func(ctx context.Context) (tokencache.Grant, error) {
				if err := two.Partition(tokencache.AccountKey(account)).SignOutEverywhere(ctx, a); err != nil {
					t.Error(err)
				}
				return a.signIn("read")(ctx)
			})
			wantError(t, err, tokencache.ErrRemoved)
			wantError(t, one.Partition(tokencache.AccountKey(account)).Check(t.Context()), tokencache.ErrNoTokens)
			ticket := mustSignIn(t, one, a, "read")
			mustToken(t, two.Partition(ticket.Key()), nil, "read")
		})
	}
}

func TestSignOutEverywhereReachesEveryKind(t *testing.T) {
	t.Parallel()
	provider, a := newProvider(t), newAuthority()
	one, two := newCache(t, provider, nil), newCache(t, provider, nil)
	ticket := mustSignIn(t, one, a, "read")
	assertion := tokencache.AssertionKey(mustVerify(t, account, "incoming"))
	stranger := tokencache.AssertionKey(mustVerify(t, "another.account", "incoming of another"))
	app := tokencache.ApplicationKey("", "api://one")
	for _, key := range []tokencache.Key{assertion, stranger, app} {
		mustToken(t, one.Partition(key), a, "api://one/read")
		mustToken(t, two.Partition(key), nil, "api://one/read") // a copy in the other machine's L1
	}
	if err := two.Partition(ticket.Key()).SignOutEverywhere(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	for i, c := range []*tokencache.Cache{one, two} {
		for name, key := range map[string]tokencache.Key{"account": ticket.Key(), "assertion": assertion} {
			_, err := c.Partition(key).Token(t.Context(), tokencache.Request{Scopes: []string{"api://one/read"}}, a)
			if !errors.Is(err, tokencache.ErrRemoved) {
				t.Errorf("machine %d still serves the %s partition: %v", i+1, name, err)
			}
		}
		for _, key := range []tokencache.Key{stranger, app} {
			mustToken(t, c.Partition(key), nil, "api://one/read")
		}
	}
}

func mustVerify(t *testing.T, owner, token string) tokencache.Assertion {
	t.Helper()
	a, err := tokencache.VerifyAssertion(t.Context(), verifies(owner), token)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

type verifies string

func (v verifies) Verify(context.Context, string) (tokencache.AssertionClaims, error) {
	return tokencache.AssertionClaims{Account: string(v), Expires: time.Now().Add(time.Hour)}, nil
}

// A partition that is being created while its owner signs out is refused.
func TestSignOutEverywhereDuringCreation(t *testing.T) {
	t.Parallel()
	provider, a := newProvider(t), newAuthority()
	one, two := newCache(t, provider, nil), newCache(t, provider, nil)
	ticket := mustSignIn(t, one, a, "read")
	key := tokencache.AssertionKey(mustVerify(t, account, "incoming"))
	a.before = func(ctx context.Context) error {
		return two.Partition(ticket.Key()).SignOutEverywhere(ctx, nil)
	}
	_, err := one.Partition(key).Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
	wantError(t, err, tokencache.ErrRemoved)
	_, err = two.Partition(key).Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, nil)
	wantError(t, err, tokencache.ErrNoTokens)
}

func TestSignOutReportsFailure(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	provider := &faulty{Provider: newProvider(t)}
	cache := newCache(t, provider, nil)
	ticket := mustSignIn(t, cache, a, "read")
	p := cache.Partition(ticket.Key())
	outage := errors.New("connection refused")
	provider.set(nil, func(context.Context, tokencache.Name, tokencache.Record, tokencache.Condition) error { return outage })
	wantError(t, p.SignOut(t.Context(), a), tokencache.ErrUnavailable)
	wantError(t, p.SignOutEverywhere(t.Context(), a), tokencache.ErrUnavailable)
	if a.revokes.Load() != 0 && p.Check(t.Context()) == nil {
		t.Log("revoked although the partition is still there: harmless, the next refresh will tell")
	}
	provider.set(nil, nil)
	if err := p.SignOutEverywhere(t.Context(), a); err != nil {
		t.Fatalf("repeated: %v", err)
	}
	wantError(t, p.Check(t.Context()), tokencache.ErrRemoved)

	ticket = mustSignIn(t, cache, a, "read")
	refusing := serverRevoke{errors.New("503")}
	err := cache.Partition(ticket.Key()).SignOut(t.Context(), refusing)
	wantError(t, err, refusing.err)
	wantError(t, cache.Partition(ticket.Key()).Check(t.Context()), tokencache.ErrRemoved)
}

// The backend applies the removal and loses the reply: what the partition held is
// revoked all the same, or it would stay valid with nobody left to know of it.
func TestSignOutAfterALostReply(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]error{
		"the driver tried again": tokencache.ErrConflict,
		"the connection broke":   errors.New("connection reset"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
			cache := newCache(t, provider, nil)
			p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
			provider.set(nil, loseReply(provider.Provider, reply))
			if err := p.SignOut(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if got := a.revokes.Load(); got != 1 {
				t.Errorf("%d refresh tokens were revoked, want 1", got)
			}
			wantError(t, p.Check(t.Context()), tokencache.ErrRemoved)
		})
	}
}

// A record that is too large to be read is nothing to keep: signing in replaces
// it and signing out removes it.
func TestTooLargeToRead(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
	oversize := func(context.Context, tokencache.Name) (tokencache.Record, error) {
		return tokencache.Record{}, tokencache.ErrTooLarge
	}
	saved := func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		err := provider.Provider.Save(ctx, n, r, c)
		if err == nil {
			provider.set(nil, nil) // it can be read again
		}
		return err
	}
	mustSignIn(t, newCache(t, provider, nil), a, "old")
	cache := newCache(t, provider, nil)
	p := cache.Partition(tokencache.AccountKey(account))
	provider.set(oversize, saved)
	wantError(t, p.Check(t.Context()), tokencache.ErrUnreadable)
	ticket := mustSignIn(t, cache, a, "read")
	mustToken(t, newCache(t, provider, nil).Partition(ticket.Key()), nil, "read")

	provider.set(oversize, saved)
	if err := cache.Partition(tokencache.AccountKey(account)).SignOut(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	wantError(t, newCache(t, provider, nil).Partition(ticket.Key()).Check(t.Context()), tokencache.ErrRemoved)
}

// All of an application's partitions have one owner, and other requests work
// with them.
func TestApplicationsAreNotSignedOutEverywhere(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	p := cache.Partition(tokencache.ApplicationKey("", "api://one"))
	mustToken(t, p, a, "api://one/.default")
	if err := p.SignOutEverywhere(t.Context(), a); err == nil || !strings.Contains(err.Error(), "application key") {
		t.Errorf("got %v", err)
	}
	mustToken(t, p, nil, "api://one/.default")
	if err := p.SignOut(t.Context(), a); err != nil {
		t.Errorf("SignOut of one resource: %v", err)
	}
}

type serverRevoke struct{ err error }

func (serverRevoke) Refresh(context.Context, tokencache.Secret, tokencache.Request) (tokencache.Grant, error) {
	return tokencache.Grant{}, errors.New("not expected")
}
func (s serverRevoke) Revoke(context.Context, tokencache.Secret) error { return s.err }

// The mark ends everything of the owner at once: until its tombstone is there, the
// record still holds the refresh token that a refused refresh has spent.
func TestMarkEndsWhatIsNotBuriedYet(t *testing.T) {
	t.Parallel()
	inner, a := newProvider(t), newAuthority()
	provider := &faulty{Provider: inner}
	one, two := newCache(t, provider, nil), newCache(t, inner, nil)
	ticket := mustSignIn(t, one, a, "read")
	mustExpire(t, one.Partition(ticket.Key()))
	entered, proceed := a.hold()
	refreshed := make(chan error)
	go func() {
		_, err := two.Partition(ticket.Key()).Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
		refreshed <- err
	}()
	<-entered
	burying, bury := make(chan struct{}, 1), make(chan struct{})
	provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		if r.Removed() {
			burying <- struct{}{}
			<-bury
		}
		return inner.Save(ctx, n, r, c)
	})
	signedOut := make(chan error)
	go func() { signedOut <- one.Partition(ticket.Key()).SignOutEverywhere(t.Context(), a) }()
	<-burying
	close(proceed)
	wantError(t, <-refreshed, tokencache.ErrRemoved)
	a.before = nil
	_, err := two.Partition(ticket.Key()).Token(t.Context(), tokencache.Request{Scopes: []string{"write"}}, a)
	wantError(t, err, tokencache.ErrRemoved)
	a.wantRefreshes(t, 1)

	// Whoever signs in anew before the tombstone is there stays signed in.
	again := mustSignIn(t, two, a, "read")
	close(bury)
	if err := <-signedOut; err != nil {
		t.Error(err)
	}
	mustToken(t, newCache(t, inner, nil).Partition(again.Key()), nil, "read")
	if a.revokes.Load() == 0 {
		t.Error("the refresh token that was removed is not revoked")
	}
}
