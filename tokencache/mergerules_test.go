package tokencache_test

import (
	"testing"
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
