package providertest_test

import (
	"os"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

func TestCacheReference(t *testing.T) {
	t.Parallel()
	f := fault(os.Getenv(faultVariable))
	h := harness(f)
	if f == plaintext {
		h = providertest.Adjust(h, func(o *tokencache.Options) { o.Keys = nil })
	}
	providertest.RunCache(t, h)
}

// TestCacheRealTime runs with one machine, whose clock does not jump.
func TestCacheRealTime(t *testing.T) {
	t.Parallel()
	providertest.RunCache(t, providertest.Harness{
		New:    func(*testing.T) tokencache.Provider { return newReference(none) },
		Expiry: 100 * time.Millisecond,
	})
}

// TestCacheLocal: a Cache in front of a store on this machine keeps its promises without
// copies.
func TestCacheLocal(t *testing.T) {
	t.Parallel()
	h := harness(none)
	first, second := h.New, h.Peer
	h.New = func(t *testing.T) tokencache.Provider { return near{first(t).(*reference)} }
	h.Peer = func(t *testing.T, p tokencache.Provider) tokencache.Provider {
		return near{second(t, p.(near).reference).(*reference)}
	}
	providertest.RunCache(t, h)
}

// near is on this machine.
type near struct{ *reference }

func (n near) Capabilities() tokencache.Capabilities {
	c := n.reference.Capabilities()
	c.Local, c.Watcher = true, nil
	return c
}

func TestCacheNothingOffered(t *testing.T) {
	t.Parallel()
	h := harness(none)
	first, second := h.New, h.Peer
	h.New = func(t *testing.T) tokencache.Provider { return bare{first(t).(*reference)} }
	h.Peer = func(t *testing.T, p tokencache.Provider) tokencache.Provider {
		return bare{second(t, p.(bare).reference).(*reference)}
	}
	providertest.RunCache(t, h)
}
