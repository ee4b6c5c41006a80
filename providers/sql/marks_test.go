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

var levels = []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}

// begin returns a transaction, and a provider in it. Both have looked at the
// database when it returns.
func begin(t *testing.T, url string, level pgx.TxIsoLevel, o *sqlprovider.Options) (pgx.Tx, *sqlprovider.Provider) {
	t.Helper()
	tx, err := conn(t, url).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
	must(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	p, err := sqlprovider.New(t.Context(), sqlprovider.Postgres(tx, o))
	must(t, err)
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return tx, p
}

// kinds are the saves that look at the mark, over a record or over nothing.
var kinds = map[string]struct {
	over bool
	cond func(tokencache.Version) tokencache.Condition
}{
	"create":                   {false, func(tokencache.Version) tokencache.Condition { return tokencache.Condition{} }},
	"replace":                  {true, tokencache.IfVersion},
	"always, over a record":    {true, func(tokencache.Version) tokencache.Condition { return tokencache.Always() }},
	"always, where is nothing": {false, func(tokencache.Version) tokencache.Condition { return tokencache.Always() }},
}

func eachSave(t *testing.T, test func(t *testing.T, level pgx.TxIsoLevel, p *sqlprovider.Provider, o *sqlprovider.Options, n tokencache.Name, c tokencache.Condition)) {
	t.Parallel()
	for _, level := range levels {
		for kind, k := range kinds {
			t.Run(string(level)+", "+kind, func(t *testing.T) {
				t.Parallel()
				o := &sqlprovider.Options{Prefix: newPrefix()}
				p := newProvider(t, sqlprovider.Postgres(pool(t, sharedURL(t), parameter("default_transaction_isolation", string(level))), o))
				n, old := newName(), record("before")
				if k.over {
					must(t, p.Save(t.Context(), n, old, tokencache.Condition{}))
				}
				test(t, level, p, o, n, k.cond(old.Version))
			})
		}
	}
}

// A save that has read the mark, and has not committed yet, keeps SetMark waiting:
// what is listed afterwards has its partition.
func TestSetMarkWaitsForSave(t *testing.T) {
	eachSave(t, func(t *testing.T, level pgx.TxIsoLevel, p *sqlprovider.Provider, o *sqlprovider.Options, n tokencache.Name, c tokencache.Condition) {
		ctx := t.Context()
		tx, inside := begin(t, sharedURL(t), level, o)
		must(t, inside.Save(ctx, n, record("in flight"), c))
		set := make(chan error, 1)
		go func() { set <- p.SetMark(ctx, n.Owner, tokencache.NewVersion(), time.Now().Add(time.Hour)) }()
		select {
		case err := <-set:
			t.Fatalf("SetMark did not wait: %v", err)
		case <-time.After(150 * time.Millisecond):
		}
		must(t, tx.Commit(ctx))
		must(t, <-set)
		if listed, err := p.List(ctx, n.Owner); err != nil || len(listed) != 1 {
			t.Errorf("%d listed, error %v", len(listed), err)
		}
		if err := p.Save(ctx, n, record("late"), tokencache.Always()); !errors.Is(err, tokencache.ErrRemoved) {
			t.Errorf("a save after the mark: %v", err)
		}
	})
}

// A save that begins while SetMark has not committed yet waits for it, and is
// refused. A tombstone is not, and waits for nobody.
func TestSaveWaitsForSetMark(t *testing.T) {
	eachSave(t, func(t *testing.T, level pgx.TxIsoLevel, p *sqlprovider.Provider, o *sqlprovider.Options, n tokencache.Name, c tokencache.Condition) {
		ctx := t.Context()
		tx, inside := begin(t, sharedURL(t), level, o)
		must(t, inside.SetMark(ctx, n.Owner, tokencache.NewVersion(), time.Now().Add(time.Hour)))
		saved := make(chan error, 1)
		go func() { saved <- p.Save(ctx, n, record("late"), c) }()
		select {
		case err := <-saved:
			t.Fatalf("Save did not wait: %v", err)
		case <-time.After(150 * time.Millisecond):
		}
		other := tokencache.Name{Owner: n.Owner, Partition: newName().Partition}
		must(t, p.Save(ctx, other, tombstone(), tokencache.Always()))
		must(t, tx.Commit(ctx))
		if err := <-saved; !errors.Is(err, tokencache.ErrRemoved) {
			t.Errorf("a save that has waited for the mark: %v", err)
		}
	})
}

// A transaction that has looked at the database before SetMark, and saves after
// it, is refused or fails. It does not save.
func TestSaveWithOldSnapshot(t *testing.T) {
	eachSave(t, func(t *testing.T, level pgx.TxIsoLevel, p *sqlprovider.Provider, o *sqlprovider.Options, n tokencache.Name, c tokencache.Condition) {
		ctx := t.Context()
		tx, inside := begin(t, sharedURL(t), level, o)
		must(t, p.SetMark(ctx, n.Owner, tokencache.NewVersion(), time.Now().Add(time.Hour)))
		err := inside.Save(ctx, n, record("late"), c)
		if err == nil {
			err = tx.Commit(ctx)
		}
		switch {
		case err == nil:
			t.Error("it was saved")
		case level == pgx.ReadCommitted && !errors.Is(err, tokencache.ErrRemoved):
			t.Errorf("a save after the mark: %v", err)
		}
	})
}

// An owner whose row was swept gets one with the next save, and not without.
func TestOwnerWithoutRow(t *testing.T) {
	t.Parallel()
	ctx, prefix := t.Context(), newPrefix()
	db := pool(t, sharedURL(t))
	p := newProvider(t, sqlprovider.Postgres(db, &sqlprovider.Options{Prefix: prefix}))
	n, dead, next := newName(), tombstone(), record("next")
	rows := func() (count int) {
		must(t, db.QueryRow(ctx, "SELECT count(*) FROM "+prefix+"owners").Scan(&count))
		return count
	}
	must(t, p.Save(ctx, n, dead, tokencache.Condition{})) // a tombstone needs none
	if rows() != 0 {
		t.Fatal("a tombstone has made an owner's row")
	}
	if err := p.Save(ctx, n, next, tokencache.IfVersion(tokencache.NewVersion())); !errors.Is(err, tokencache.ErrConflict) {
		t.Errorf("another version: %v", err)
	}
	must(t, p.Save(ctx, n, next, tokencache.IfVersion(dead.Version)))
	if rows() != 1 {
		t.Error("a record has no owner's row")
	}
	if got, err := p.Load(ctx, n); err != nil || got.Version != next.Version {
		t.Errorf("version %v, error %v", got.Version, err)
	}
}
