package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// evaluating is the authority with continuous access evaluation: what it issues says
// what it was asked with.
type evaluating struct {
	*authority
	long atomic.Int64 // requests with the capability
}

func (e *evaluating) Refresh(ctx context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	g, err := e.authority.Refresh(ctx, rt, req)
	if req.CAE && err == nil {
		e.long.Add(1)
		g.AccessToken, g.Expires = "marker-cae-"+g.AccessToken, time.Now().Add(28*time.Hour)
	}
	return g, err
}

// wantKind checks a token's kind, and whether it is a new one.
func wantKind(t testing.TB, p *tokencache.Partition, req tokencache.Request, s *evaluating, asks int64) tokencache.Secret {
	t.Helper()
	before := s.refreshes.Load()
	tok, err := p.Token(t.Context(), req, s)
	if err != nil {
		t.Fatal(err)
	}
	const prefix = "marker-cae-"
	if got := len(tok.AccessToken) > len(prefix) && tok.AccessToken[:len(prefix)] == prefix; got != req.CAE {
		t.Errorf("asked with CAE %v, got a token of the other kind", req.CAE)
	}
	if got := s.refreshes.Load() - before; got != asks {
		t.Errorf("CAE %v: the server was asked %d times, want %d", req.CAE, got, asks)
	}
	return tok.AccessToken
}

// Tokens of continuous access evaluation and ordinary ones are kept apart in each
// kind of partition, in this process and through the store, and share the refresh
// token.
func TestCAEKeptApart(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]func(t *testing.T, c *tokencache.Cache, a *authority) tokencache.Key{
		"user": func(t *testing.T, c *tokencache.Cache, a *authority) tokencache.Key {
			return mustSignIn(t, c, a, "other").Key()
		},
		"session": func(t *testing.T, c *tokencache.Cache, a *authority) tokencache.Key {
			ticket, err := c.SignInSession(t.Context(), "session", a.signIn("other"))
			if err != nil {
				t.Fatal(err)
			}
			return ticket.Key()
		},
		"application": func(*testing.T, *tokencache.Cache, *authority) tokencache.Key {
			return tokencache.ApplicationKey("", "api")
		},
		"on behalf of a caller": func(t *testing.T, _ *tokencache.Cache, _ *authority) tokencache.Key {
			a, err := tokencache.VerifyAssertion(t.Context(), hourly{}, "marker-assertion")
			if err != nil {
				t.Fatal(err)
			}
			return tokencache.AssertionKey(a)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider, keys := newProvider(t), newKeys(t)
			options := &tokencache.Options{Keys: keys}
			here, there := newCache(t, provider, options), newCache(t, provider, options)
			s := &evaluating{authority: newAuthority()}
			k := key(t, here, s.authority)
			cae := tokencache.Request{Scopes: []string{"read"}, CAE: true}
			ordinary := request("read")

			long := wantKind(t, here.Partition(k), cae, s, 1)
			short := wantKind(t, here.Partition(k), ordinary, s, 1)
			for _, c := range []*tokencache.Cache{here, there, there} {
				if wantKind(t, c.Partition(k), cae, s, 0) != long || wantKind(t, c.Partition(k), ordinary, s, 0) != short {
					t.Error("another token of the same kind")
				}
			}

			// A refused token is replaced by one of its kind, and the other stays.
			refused := cae
			refused.Refused = long
			if wantKind(t, there.Partition(k), refused, s, 1) == long {
				t.Error("the refused token came back")
			}
			wantKind(t, there.Partition(k), ordinary, s, 0)

			// So it is with a claims challenge.
			challenge := tokencache.Request{Scopes: []string{"read"}, Claims: `{"access_token":{"nbf":{"essential":true}}}`}
			wantKind(t, there.Partition(k), challenge, s, 1)
			challenge.CAE = true
			challenged := wantKind(t, there.Partition(k), challenge, s, 1)
			if wantKind(t, there.Partition(k), challenge, s, 0) != challenged {
				t.Error("the challenge was met twice")
			}
			s.wantRefreshes(t, 5)
			if got := s.long.Load(); got != 3 {
				t.Errorf("the server was asked %d times with the capability, want 3", got)
			}
		})
	}
}

// However many ask at once, the server is asked once for each kind.
func TestCAESingleFlight(t *testing.T) {
	t.Parallel()
	cache := newCache(t, newProvider(t), nil)
	s := &evaluating{authority: newAuthority()}
	k := mustSignIn(t, cache, s.authority, "other").Key()
	s.before = func(context.Context) error { time.Sleep(20 * time.Millisecond); return nil }
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			tok, err := cache.Partition(k).Token(t.Context(), tokencache.Request{Scopes: []string{"read"}, CAE: i%2 == 0}, s)
			if got := tok.Expires.After(time.Now().Add(2 * time.Hour)); err != nil || got != (i%2 == 0) {
				t.Errorf("caller %d: %v, or a token of the other kind", i, err)
			}
		})
	}
	wg.Wait()
	s.wantRefreshes(t, 2)
}

// What the server wants of the user before it issues the one kind says nothing of
// the other.
func TestCAERefusalsAreApart(t *testing.T) {
	t.Parallel()
	cache := newCache(t, newProvider(t), nil)
	a := newAuthority()
	p := cache.Partition(mustSignIn(t, cache, a, "other").Key())
	var asked atomic.Int64
	server := serverFunc(func(ctx context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
		asked.Add(1)
		if req.CAE {
			return tokencache.Grant{}, fmt.Errorf("refused: %w", &tokencache.InteractionRequiredError{Code: "interaction_required"})
		}
		return a.Refresh(ctx, rt, req)
	})
	var interaction *tokencache.InteractionRequiredError
	for range 3 {
		if _, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}, CAE: true}, server); !errors.As(err, &interaction) {
			t.Fatalf("got %v", err)
		}
	}
	mustToken(t, p, server, "read")
	if got := asked.Load(); got != 2 {
		t.Errorf("the server was asked %d times, want 2", got)
	}
}
