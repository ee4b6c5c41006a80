package tokencache_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// No tokens at all are no reason to panic.
func TestMergeNil(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	before, err := p.Tokens(t.Context())
	must(t, err)
	must(t, p.Merge(t.Context(), nil, nil))
	must(t, p.Merge(t.Context(), before, nil))
	must(t, p.Merge(t.Context(), nil, before))
	mustExpire(t, p)
	mustToken(t, p, a, "read")
}

// Who has signed out stays so, also when no trace of that is left: before may be as old
// as the library's own memory.
func TestMergeLongAfterSignOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		cache := newCache(t, newProvider(t), nil)
		p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
		before, err := p.Tokens(t.Context())
		must(t, err)
		d := itemsOf(t, before)
		(&library{a, "login.example"}).refresh(t, d, "write")
		must(t, p.SignOut(t.Context(), nil))
		time.Sleep(10 * time.Minute)
		wantError(t, p.Merge(t.Context(), before, d.tokens(t)), tokencache.ErrRemoved)
		if _, err := p.Token(t.Context(), request("write"), nil); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("the user is signed in again: %v", err)
		}
	})
}

// What was given to the library may have been through another process. The refresh token
// that it has spent is known all the same, and is not left for the next one to spend.
func TestMergeOfCopy(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	before, err := p.Tokens(t.Context())
	must(t, err)
	d := itemsOf(t, before)
	(&library{a, "login.example"}).refresh(t, d, "write")
	must(t, p.Merge(t.Context(), itemsOf(t, before).tokens(t), d.tokens(t)))
	mustExpire(t, p)
	mustToken(t, p, a, "read")
	a.wantRefreshes(t, 2)
}

// An access token that others have dropped meanwhile is not stored again, because the
// library writes it a little differently.
func TestMergeExpired(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	before, err := p.Tokens(t.Context())
	must(t, err)
	d := itemsOf(t, before)
	for _, item := range d["AccessToken"] {
		item["extended_expires_on"], item["token_type"] = "99999999999", "Bearer"
	}
	mustExpire(t, p)
	must(t, p.Merge(t.Context(), before, d.tokens(t)))
	if _, err := p.Token(t.Context(), request("read"), nil); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("the token is there again: %v", err)
	}
}

// Who cannot look whether there are tokens does not say that there are none.
func TestMergeUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		provider := &faulty{Provider: newProvider(t)}
		cache := newCache(t, provider, nil)
		p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
		before, err := p.Tokens(t.Context())
		must(t, err)
		d := itemsOf(t, before)
		(&library{a, "login.example"}).refresh(t, d, "write")
		provider.set(refuseLoads, refuseSaves)
		err = p.Merge(t.Context(), &tokencache.Tokens{}, d.tokens(t))
		if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("during an outage: %v", err)
		}
	})
}

// A sign-in with a refresh token of the family replaces what the last one has left: that
// may be why the user had to sign in.
func TestSignInWithFamilyTokens(t *testing.T) {
	t.Parallel()
	for name, family := range map[string]string{"own": "", "family": "1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority()
			cache := newCache(t, newProvider(t), nil)
			_, err := cache.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
				return tokencache.Grant{
					AccessToken: "marker-last", RefreshToken: "marker-dead", Family: family, Account: tokencache.Account{ID: account},
				}, nil
			})
			must(t, err)
			g, err := a.signIn("read")(t.Context())
			must(t, err)
			d, l := items{}, &library{a, "login.example"}
			l.fill(d, account, g)
			for _, item := range d["RefreshToken"] {
				item["family_id"] = "1"
			}
			d.put("AppMetadata", "own", map[string]any{"client_id": namespace.ClientID, "environment": l.environment, "family_id": "1"})
			ticket, err := cache.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
				return tokencache.Grant{Tokens: d.tokens(t), Account: tokencache.Account{ID: account}}, nil
			})
			must(t, err)
			p := cache.Partition(ticket.Key())
			mustExpire(t, p)
			mustToken(t, p, a, "read")
		})
	}
}
