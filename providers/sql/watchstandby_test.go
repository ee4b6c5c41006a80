package sql_test

import (
	"errors"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Where the address leads to the standby before that takes the primary's place,
// there is nothing to watch. When it does, there is: Missed comes then, and no
// lease is granted until the others have noticed too.
func TestWatchBeforePromotion(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pair := testserver.NewPostgresPair(t)
	proxy := testserver.NewProxy(t, pair.Primary.Addr())
	var log journal
	p := newProvider(t, sqlprovider.Postgres(pool(t, pair.Primary.URLAt(proxy.Addr())), &sqlprovider.Options{Log: log.logger()}))
	must(t, p.Save(ctx, newName(), record("before"), tokencache.Condition{}))
	must(t, pair.PauseReplication(ctx)) // which waits until the standby has the tables
	changes := watch(t, p)
	next(t, changes, 2*time.Second, true)

	must(t, pair.Primary.Kill())
	proxy.Retarget(pair.Standby.Addr())
	eventually(t, 5*time.Second, "the standby answers", func() bool { return p.Ping(ctx) == nil })
	for range 3 { // longer than leases are held back
		nothing(t, changes)
	}
	if log.count("25006") != 1 {
		t.Errorf("%d warnings, want one that names the standby", log.count("25006"))
	}
	must(t, pair.Promote(ctx))
	next(t, changes, 3*time.Second, true)
	if _, err := p.Acquire(ctx, newName(), time.Minute); !errors.Is(err, tokencache.ErrBusy) {
		t.Errorf("a lease at once: %v", err)
	}
	n := newName()
	must(t, p.Save(ctx, n, record("after"), tokencache.Condition{}))
	if c := next(t, changes, 3*time.Second, false); c.Name != n {
		t.Error("another change was told")
	}
}
