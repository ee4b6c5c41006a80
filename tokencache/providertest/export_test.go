package providertest

import (
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// CheckHistory is Concurrency/History alone.
func CheckHistory(t *testing.T, p tokencache.Provider) {
	t.Helper()
	testHistory(&env{T: t, ctx: t.Context(), p: p, peer: p, caps: p.Capabilities(), expiry: defaultExpiry})
}

// Adjust returns the harness with other options of RunCache's caches.
func Adjust(h Harness, change func(*tokencache.Options)) Harness {
	h.adjust = change
	return h
}
