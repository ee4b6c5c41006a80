package tokencache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A hit in L1 allocates the Partition and nothing else, whatever the key.
func TestTokenFromL1Allocates(t *testing.T) {
	cache := newCache(t, newProvider(t), nil)
	ticket := mustSignIn(t, cache, newAuthority(), "openid", "profile", "read", "write")
	for name, req := range map[string]tokencache.Request{
		"some scopes": request("WRITE", "read", "offline_access"),
		"no scopes":   {},
		"a tenant":    {Scopes: []string{"read"}, Tenant: "utid"},
	} {
		if got := testing.AllocsPerRun(100, func() {
			if tok, err := cache.Partition(ticket.Key()).Token(t.Context(), req, nil); err != nil || tok.Source != tokencache.SourceL1 {
				t.Fatalf("%s: source %v, error %v", name, tok.Source, err)
			}
		}); got > 1 {
			t.Errorf("%s: %v allocations, want 1", name, got)
		}
	}
}

// Scopes may be joined as in a scope parameter; L1 answers all the same.
func TestJoinedScopesFromL1(t *testing.T) {
	t.Parallel()
	cache := newCache(t, newProvider(t), nil)
	ticket := mustSignIn(t, cache, newAuthority(), "read", "write")
	for _, scopes := range [][]string{{"read write"}, {" read\twrite "}, {"read", ""}, {""}} {
		if tok := mustToken(t, cache.Partition(ticket.Key()), nil, scopes...); tok.Source != tokencache.SourceL1 {
			t.Errorf("%q: from %v", scopes, tok.Source)
		}
	}
	_, err := cache.Partition(ticket.Key()).Token(t.Context(), request("read delete"), nil)
	wantError(t, err, tokencache.ErrNoTokens)
}

// An access token from L1, beside a bare Get of the otter cache that L1 is:
// compare the two within one run.
func BenchmarkTokenFromL1(b *testing.B) {
	const users = 1000
	a := newAuthority()
	cache := newCache(b, newProvider(b), &tokencache.Options{L1MaxAge: time.Hour})
	var keys []tokencache.Key
	for i := range users {
		ticket, err := cache.SignIn(b.Context(), a.signInAs(fmt.Sprintf("account-%d", i), "openid", "profile", "read", "write"))
		if err != nil {
			b.Fatal(err)
		}
		keys = append(keys, ticket.Key())
	}
	req := tokencache.Request{Scopes: []string{"write", "read"}}
	ctx := context.Background()

	b.Run("bare otter Get", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if !tokencache.InL1(cache, keys[i%users]) {
					b.Error("a miss")
				}
			}
		})
	})
	b.Run("token", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if _, err := cache.Partition(keys[i%users]).Token(ctx, req, nil); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
