package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// together runs f n times at once.
func together(n int, f func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func TestRefreshOnce(t *testing.T) {
	t.Parallel()
	for name, machines := range map[string]int{"one machine": 1, "four machines": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider, a := newProvider(t), newAuthority()
			a.before = func(context.Context) error { time.Sleep(20 * time.Millisecond); return nil }
			var caches []*tokencache.Cache
			for range machines {
				caches = append(caches, newCache(t, provider, nil))
			}
			ticket := mustSignIn(t, caches[0], a, "read")
			mustExpire(t, caches[0].Partition(ticket.Key()))

			tokens := make([]tokencache.Secret, 64)
			together(len(tokens), func(i int) {
				p := caches[i%machines].Partition(ticket.Key())
				tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
				if err != nil {
					t.Errorf("caller %d: %v", i, err)
				}
				tokens[i] = tok.AccessToken
			})
			a.wantRefreshes(t, 1)
			for i, tok := range tokens {
				if tok != tokens[0] || tok == "" {
					t.Errorf("caller %d got another token than caller 0", i)
				}
			}
		})
	}
}

// Two scopes acquired at once, on two machines, from one refresh token.
func TestRefreshSeveralAudiences(t *testing.T) {
	t.Parallel()
	for name, hide := range map[string]func(*tokencache.Capabilities){
		"with leases": nil,
		"one machine": func(c *tokencache.Capabilities) { c.Leaser = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider, a := &faulty{Provider: newProvider(t), hide: hide}, newAuthority()
			caches := []*tokencache.Cache{newCache(t, provider, nil), newCache(t, provider, nil)}
			if hide != nil {
				caches[1] = caches[0]
			}
			ticket := mustSignIn(t, caches[0], a, "api://one/read")
			together(8, func(i int) {
				p := caches[i%2].Partition(ticket.Key())
				scope := fmt.Sprintf("api://api%d/read", i)
				tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{scope}}, a)
				if err != nil || !strings.HasSuffix(string(tok.AccessToken), scope) {
					t.Errorf("caller %d: got a token of other scopes or %v", i, err)
				}
			})
			a.wantRefreshes(t, 8)
			for i := range 8 {
				p := newCache(t, provider, nil).Partition(ticket.Key())
				if tok := mustToken(t, p, nil, fmt.Sprintf("api://api%d/read", i)); tok.Source != tokencache.SourceProvider {
					t.Errorf("scope %d came from %v", i, tok.Source)
				}
			}
			a.wantRefreshes(t, 8)
		})
	}
}

func TestRefreshWithTheRefusedTokenNamed(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	ticket := mustSignIn(t, cache, a, "read")
	p := cache.Partition(ticket.Key())
	refused := mustToken(t, p, nil, "read").AccessToken

	got := make([]tokencache.Secret, 16)
	together(len(got), func(i int) {
		tok, err := cache.Partition(ticket.Key()).Token(t.Context(), tokencache.Request{Scopes: []string{"read"}, Refused: refused}, a)
		if err != nil || tok.AccessToken == refused {
			t.Errorf("got the refused token again, or %v", err)
		}
		got[i] = tok.AccessToken
	})
	a.wantRefreshes(t, 1)
	// Somebody who was refused with the old token is answered from the cache.
	tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}, Refused: refused}, a)
	if err != nil || tok.AccessToken != got[0] {
		t.Errorf("got %v, want the token that replaced the refused one", err)
	}
	a.wantRefreshes(t, 1)
}

func TestInvalidGrantIsRememberedForTheTokenOnly(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	ticket := mustSignIn(t, cache, a, "read")
	p := cache.Partition(ticket.Key())
	mustExpire(t, p)
	a.revokeAll()
	for _, scope := range []string{"read", "read", "write", "third"} { // it is no better for another request
		_, err := p.Token(t.Context(), request(scope), a)
		wantError(t, err, tokencache.ErrInvalidGrant)
		wantError(t, err, tokencache.ErrNoTokens)
	}
	if got := a.refreshes.Load(); got != 1 {
		t.Errorf("the server was asked %d times about one refused refresh token, want once", got)
	}
	mustSignIn(t, cache, a, "read")
	mustExpire(t, cache.Partition(ticket.Key()))
	mustToken(t, cache.Partition(ticket.Key()), a, "read")
}

// Without leases, another machine may have spent the refresh token meanwhile. With
// reuse detection the family would be lost, which is what leases are for.
func TestInvalidGrantUsesTheNewerToken(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t), hide: noLeases}, newAuthority()
	one, two := newCache(t, provider, nil), newCache(t, provider, nil)
	ticket := mustSignIn(t, one, a, "read")
	mustExpire(t, one.Partition(ticket.Key()))
	var once sync.Once
	overtaken := serverFunc(func(ctx context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
		once.Do(func() { mustToken(t, two.Partition(ticket.Key()), a.lenient(), "other") })
		return a.lenient()(ctx, rt, req)
	})
	tok := mustToken(t, one.Partition(ticket.Key()), overtaken, "read")
	if tok.Source != tokencache.SourceServer {
		t.Errorf("got a token from %v", tok.Source)
	}
	mustToken(t, newCache(t, provider, nil).Partition(ticket.Key()), nil, "other")
	mustToken(t, newCache(t, provider, nil).Partition(ticket.Key()), nil, "read")
}

func TestRefreshFailures(t *testing.T) {
	t.Parallel()
	down := &tokencache.ServerError{RetryAfter: time.Second, Err: errors.New("status 503")}
	interaction := &tokencache.InteractionRequiredError{Code: "interaction_required", Claims: `{"id_token":{}}`, Scopes: []string{"read"}}
	for name, tt := range map[string]struct {
		answer func(context.Context, tokencache.Grant) (tokencache.Grant, error)
		want   any
		asked  int64 // refreshes after three calls
	}{
		"down after rotating, with the new token": {
			func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
				return tokencache.Grant{RefreshToken: g.RefreshToken, AccessToken: g.AccessToken}, down
			}, new(*tokencache.ServerError), 3,
		},
		"no access token": {
			func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
				g.AccessToken = ""
				return g, nil
			},
			new(*tokencache.ServerError), 3,
		},
		"another account": {
			func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
				g.Account.ID = "somebody.else"
				return g, nil
			}, new(*tokencache.ServerError), -1,
		},
		"interaction required": {
			func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
				return tokencache.Grant{RefreshToken: g.RefreshToken}, interaction // remembered under the new one
			}, new(*tokencache.InteractionRequiredError), 1,
		},
		"fewer scopes": {
			func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
				g.Scopes = []string{"other"}
				return g, nil
			}, new(*tokencache.InteractionRequiredError), 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority()
			cache := newCache(t, newProvider(t), nil)
			ticket := mustSignIn(t, cache, a, "read")
			p := cache.Partition(ticket.Key())
			mustExpire(t, p)
			a.answer = tt.answer
			calls := 3
			if name == "another account" {
				calls = 1 // the refresh token is refused along with the rest
			}
			for range calls {
				tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
				if !errors.As(err, tt.want) || tok.AccessToken != "" {
					t.Fatalf("got %v, want a %T", err, tt.want)
				}
			}
			if got := a.refreshes.Load(); tt.asked >= 0 && got != tt.asked {
				t.Errorf("the server was asked %d times, want %d", got, tt.asked)
			}
			if name == "another account" {
				return
			}
			a.answer = nil
			mustToken(t, p, a, "write") // with the rotated token: nothing was lost
			if a.reused.Load() != 0 {
				t.Error("the rotated refresh token was lost, the old one reused")
			}
		})
	}
}

// What a refresh obtained cannot be stored: a good token is handed out all the
// same, and nothing else passes for one.
func TestRefreshThatCannotBeStored(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer func(context.Context, tokencache.Grant) (tokencache.Grant, error)
		want   any // nil for a token
	}{
		"as asked": {nil, nil},
		"failed after rotating": {
			func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
				return tokencache.Grant{RefreshToken: g.RefreshToken}, &tokencache.ServerError{Err: errors.New("status 503")}
			}, new(*tokencache.ServerError),
		},
		"fewer scopes": {
			func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
				g.Scopes = []string{"read"}
				return g, nil
			}, new(*tokencache.InteractionRequiredError),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority()
			provider := &faulty{Provider: newProvider(t)}
			cache := newCache(t, provider, nil)
			p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
			a.answer = tt.answer
			provider.set(nil, tooLarge)
			tok, err := p.Token(t.Context(), request("write"), a)
			if ok := tok.AccessToken != ""; ok != (tt.want == nil) || ok != (err == nil) || !ok && !errors.As(err, tt.want) {
				t.Errorf("got a token: %v; error: %v, want a %T", ok, err, tt.want)
			}
		})
	}
}

// A token that is due is served until it ends where there is nothing to refresh
// it with.
func TestStaleTokenWithoutRefreshToken(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	ticket, err := cache.SignIn(t.Context(), func(ctx context.Context) (tokencache.Grant, error) {
		g, err := a.signIn("read")(ctx)
		g.RefreshToken, g.RefreshOn = "", time.Now().Add(-time.Second)
		return g, err
	})
	if err != nil {
		t.Fatal(err)
	}
	mustToken(t, cache.Partition(ticket.Key()), a, "read")
	_, err = cache.Partition(ticket.Key()).Token(t.Context(), request("write"), a)
	wantError(t, err, tokencache.ErrNoTokens)
	a.wantRefreshes(t, 0)
}

func TestServerDownWithinTheMargin(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	a.lifetime = time.Hour
	cache := newCache(t, newProvider(t), &tokencache.Options{RefreshMargin: time.Hour})
	ticket, err := cache.SignIn(t.Context(), func(ctx context.Context) (tokencache.Grant, error) {
		g, err := a.signIn("read")(ctx)
		g.RefreshOn = time.Now().Add(-time.Second) // due
		return g, err
	})
	if err != nil {
		t.Fatal(err)
	}
	p := cache.Partition(ticket.Key())
	for name, failure := range map[string]error{
		"down":           &tokencache.ServerError{Err: errors.New("down")},
		"anything else":  errors.New("something"),
		"no interaction": nil,
	} {
		a.before = func(context.Context) error { return failure }
		tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
		if err != nil || tok.AccessToken == "" {
			t.Errorf("%s: a token that is valid for an hour was not served: %v", name, err)
		}
	}
	// A final refusal is told at once: the session is over.
	mustExpire(t, p)
	a.before = nil
	a.revokeAll()
	_, err = p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
	wantError(t, err, tokencache.ErrInvalidGrant)
}

func TestApplicationTokens(t *testing.T) {
	t.Parallel()
	provider, a := newProvider(t), newAuthority()
	caches := []*tokencache.Cache{newCache(t, provider, nil), newCache(t, provider, nil)}
	key := tokencache.ApplicationKey("tenant", "api://one")
	together(32, func(i int) {
		tok, err := caches[i%2].Partition(key).Token(t.Context(), tokencache.Request{Scopes: []string{"api://one/.default"}}, a)
		if err != nil || tok.AccessToken == "" {
			t.Error(err)
		}
	})
	a.wantRefreshes(t, 1)
	mustToken(t, caches[0].Partition(tokencache.ApplicationKey("", "api://one")), a, "api://one/.default")
	a.wantRefreshes(t, 2)
}

// A partition that has nothing left to keep must not stay in the store forever.
func TestExpiredApplicationVanishes(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
	cache := newCache(t, provider, nil)
	p := cache.Partition(tokencache.ApplicationKey("", "api://one"))
	mustToken(t, p, a, "api://one/.default")
	provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		if r.Expires.IsZero() {
			t.Error("a record without tokens is stored forever")
		}
		return provider.Provider.Save(ctx, n, r, c)
	})
	mustExpire(t, p)
	mustToken(t, p, a, "api://one/.default")
}
