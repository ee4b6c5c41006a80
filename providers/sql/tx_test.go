package sql_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// What is saved in a transaction of the caller is there when it commits, and gone
// when it is rolled back. An answer of the contract does not end it.
func TestTransaction(t *testing.T) {
	t.Parallel()
	ctx, o := t.Context(), &sqlprovider.Options{Prefix: newPrefix()}
	outside := newProvider(t, sqlprovider.Postgres(pool(t, sharedURL(t)), o))
	for _, level := range levels {
		for _, commits := range []bool{true, false} {
			tx, p := begin(t, sharedURL(t), level, o)
			caps := p.Capabilities()
			if caps.Leaser != nil || caps.Watcher != nil || caps.Sweeper != nil || caps.Owners == nil || caps.Toucher == nil {
				t.Error("a transaction offers other capabilities")
			}
			n, r := newName(), record("inside")
			must(t, p.Save(ctx, n, r, tokencache.Condition{}))
			if err := p.Save(ctx, n, record("again"), tokencache.Condition{}); !errors.Is(err, tokencache.ErrConflict) {
				t.Error("a conflict:", err)
			}
			if got, err := p.Load(ctx, n); err != nil || got.Version != r.Version {
				t.Error("its own save:", err)
			}
			if _, err := outside.Load(ctx, n); !errors.Is(err, tokencache.ErrNotFound) {
				t.Error("from outside, before it has committed:", err)
			}
			var want error
			if commits {
				must(t, tx.Commit(ctx))
			} else {
				must(t, tx.Rollback(ctx))
				want = tokencache.ErrNotFound
			}
			if _, err := outside.Load(ctx, n); !errors.Is(err, want) {
				t.Errorf("%s, afterwards (committed: %v): %v", level, commits, err)
			}
			if err := p.Ping(ctx); err == nil {
				t.Error("a transaction that is over answers")
			}
		}
	}
}

// Nothing is repeated in a transaction: it has failed as a whole.
func TestTransactionFails(t *testing.T) {
	t.Parallel()
	ctx, o := t.Context(), &sqlprovider.Options{Prefix: newPrefix()}
	outside := newProvider(t, sqlprovider.Postgres(pool(t, sharedURL(t)), o))
	n, r := newName(), record("before")
	must(t, outside.Save(ctx, n, r, tokencache.Condition{}))
	_, p := begin(t, sharedURL(t), pgx.RepeatableRead, o)
	must(t, outside.Save(ctx, n, record("faster"), tokencache.IfVersion(r.Version)))
	err := p.Save(ctx, n, record("inside"), tokencache.IfVersion(r.Version))
	wantText(t, "a collision", err, "40001")
	wantText(t, "after it", p.Ping(ctx), "25P02")
}

// Calls through one connection wait for each other, and for no longer than their
// contexts last.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	ctx, o := t.Context(), &sqlprovider.Options{Prefix: newPrefix()}
	shared := pool(t, sharedURL(t))
	holder := newProvider(t, sqlprovider.Postgres(shared, o))
	held, err := shared.Acquire(ctx)
	must(t, err)
	defer held.Release()
	p := newProvider(t, sqlprovider.Postgres(held, o))
	n := newName()
	must(t, holder.Save(ctx, n, record("there"), tokencache.Condition{}))
	tx, inside := begin(t, sharedURL(t), pgx.ReadCommitted, o)
	must(t, inside.Save(ctx, n, tombstone(), tokencache.Always()))
	saved := make(chan error, 1)
	go func() { saved <- p.Save(ctx, n, tombstone(), tokencache.Always()) }() // waits for the transaction
	eventually(t, 2*time.Second, "somebody waits", func() bool {
		late, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		err := p.Ping(late)
		return errors.Is(err, context.DeadlineExceeded)
	})
	must(t, tx.Commit(ctx))
	must(t, <-saved)
	must(t, p.Ping(ctx))
}
