package tokencache_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// as signs an account in that is known under a name.
func as(a *authority, id, name string) func(context.Context) (tokencache.Grant, error) {
	return func(ctx context.Context) (tokencache.Grant, error) {
		g, err := a.signInAs(id, "read")(ctx)
		g.Account.Username = name
		return g, err
	}
}

func usernames(accounts []tokencache.Account) (names []string) {
	for _, a := range accounts {
		names = append(names, a.Username)
	}
	return names
}

// Who is signed in: not who has signed out, nor other clients' users, nor what else an
// account has.
func TestAccounts(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*tokencache.Options{
		"plain":  nil,
		"sealed": {Keys: newKeys(t)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, a, provider := t.Context(), newAuthority(), newProvider(t)
			cache := newCache(t, provider, o)
			if list, err := cache.Accounts(ctx); err != nil || len(list) != 0 {
				t.Fatalf("of nobody: %d, %v", len(list), err)
			}
			var gone tokencache.Ticket
			for id, username := range map[string]string{"1": "cecilia", "2": "ada", "3": "gone", "4": "bertha"} {
				ticket, err := cache.SignIn(ctx, as(a, id, username))
				if err != nil {
					t.Fatal(err)
				}
				if username == "gone" {
					gone = ticket
				}
			}
			if _, err := cache.SignInSession(ctx, "marker-session", as(a, "5", "in a session")); err != nil {
				t.Fatal(err)
			}
			mustToken(t, cache.Partition(tokencache.ApplicationKey("", "api")), a.lenient(), "api")
			if err := cache.Partition(gone.Key()).SignOut(ctx, nil); err != nil {
				t.Fatal(err)
			}
			other, err := tokencache.New(provider, tokencache.Namespace{Issuer: namespace.Issuer, ClientID: "another"}, o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = other.Close(ctx) }()
			if _, err := other.SignIn(ctx, as(a, "6", "another's")); err != nil {
				t.Fatal(err)
			}

			list, err := cache.Accounts(ctx)
			if diff := cmp.Diff([]string{"ada", "bertha", "cecilia"}, usernames(list)); diff != "" || err != nil {
				t.Errorf("%v, %s", err, diff)
			}
			list, err = other.Accounts(ctx)
			if diff := cmp.Diff([]string{"another's"}, usernames(list)); diff != "" || err != nil {
				t.Errorf("the other client: %v, %s", err, diff)
			}
		})
	}
}

func TestAccountsFail(t *testing.T) {
	t.Parallel()
	ctx, a, provider := t.Context(), newAuthority(), &faulty{Provider: newProvider(t)}
	cache := newCache(t, provider, nil)
	mustSignIn(t, cache, a, "read")
	provider.set(refuseLoads, nil)
	_, err := cache.Accounts(ctx)
	wantError(t, err, tokencache.ErrUnavailable)
	provider.set(nil, nil)

	faults := providertest.NewFaults(provider)
	cache = newCache(t, faults, nil)
	faults.Set(providertest.Down(), providertest.OpNames)
	_, err = cache.Accounts(ctx)
	wantError(t, err, tokencache.ErrUnavailable)

	unlisted := &faulty{Provider: newProvider(t), hide: func(c *tokencache.Capabilities) { c.Lister = nil }}
	_, err = newCache(t, unlisted, nil).Accounts(ctx)
	wantError(t, err, errors.ErrUnsupported)
}
