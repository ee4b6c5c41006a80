package redis_test

import (
	"context"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

// A server that hangs for longer than a lease lasts grants it when it wakes up:
// nobody has waited for it, and it is given back all the same.
func TestLeaseGrantedLate(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	p, other := onServer(t, s.Addr()), onServer(t, s.Addr())
	n, ttl := newName(), 4*time.Second
	_, err := p.Acquire(t.Context(), newName(), ttl) // the server knows the script from now on
	must(t, err)
	must(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	if _, err := p.Acquire(ctx, n, ttl); err == nil {
		t.Fatal("the server hangs, and has granted a lease")
	}
	time.Sleep(ttl + time.Second)
	must(t, s.Resume())
	must(t, other.Ping(t.Context()))
	eventually(t, ttl/2, "the lease was given back", func() bool {
		_, err := other.Acquire(t.Context(), n, ttl)
		return err == nil
	})
}
