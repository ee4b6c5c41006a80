package tokencache_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/maypok86/otter/v2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// An access token from L1, beside a bare Get of the cache under it: compare the
// two within one run.
func BenchmarkTokenFromL1(b *testing.B) {
	const users = 1000
	a := newAuthority()
	cache := newCache(b, newProvider(b), nil)
	bare := otter.Must(&otter.Options[string, string]{MaximumSize: 2 * users})
	b.Cleanup(func() { bare.StopAllGoroutines() })
	var keys []tokencache.Key
	var names []string
	for i := range users {
		ticket, err := cache.SignIn(b.Context(), a.signInAs(fmt.Sprintf("account-%d", i), "openid", "profile", "read", "write"))
		if err != nil {
			b.Fatal(err)
		}
		keys, names = append(keys, ticket.Key()), append(names, ticket.Account())
		bare.Set(ticket.Account(), "value")
	}
	req := tokencache.Request{Scopes: []string{"write", "read"}}
	ctx := context.Background()

	b.Run("bare otter Get", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if _, ok := bare.GetIfPresent(names[i%users]); !ok {
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
