package sql_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// counts are the rows of each table.
func counts(t *testing.T, db sqlprovider.PgxDB, prefix string) string {
	t.Helper()
	var records, owners, leases int
	must(t, db.QueryRow(t.Context(), fmt.Sprintf(
		"SELECT (SELECT count(*) FROM %[1]srecords), (SELECT count(*) FROM %[1]sowners), (SELECT count(*) FROM %[1]sleases)", prefix)).
		Scan(&records, &owners, &leases))
	return fmt.Sprintf("%d records, %d owners, %d leases", records, owners, leases)
}

// Everything that is over goes, whatever it was, and nothing else.
func TestSweepLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, prefix := t.Context(), newPrefix()
	db := pool(t, sharedURL(t))
	p := newProvider(t, sqlprovider.Postgres(db, &sqlprovider.Options{Prefix: prefix}))
	soon, later := time.Now().Add(time.Second), time.Now().Add(time.Hour)
	expiring := func(r tokencache.Record, at time.Time) tokencache.Record {
		r.Expires = at
		return r
	}
	kept, marked, touched, live := newName(), newName(), newName(), tokencache.NewVersion()
	for range 3 { // everything is over
		n := newName()
		must(t, p.Save(ctx, n, expiring(record("over"), soon), tokencache.Condition{}))
		must(t, p.Save(ctx, tokencache.Name{Owner: n.Owner, Partition: "other"}, expiring(tombstone(), soon), tokencache.Condition{}))
		must(t, p.SetMark(ctx, newName().Owner, tokencache.NewVersion(), soon))
		_, err := p.Acquire(ctx, newName(), 50*time.Millisecond)
		must(t, err)
	}
	must(t, p.SetMark(ctx, kept.Owner, tokencache.NewVersion(), soon)) // goes with the owner's row, as it is none any more
	must(t, p.SetMark(ctx, marked.Owner, live, later))                 // the other way round
	must(t, p.Save(ctx, marked, expiring(tombstone(), soon), tokencache.Condition{}))
	r := expiring(record("touched"), soon)
	must(t, p.Save(ctx, touched, r, tokencache.Condition{}))
	must(t, p.Touch(ctx, touched, r.Version, later))
	_, err := p.Acquire(ctx, kept, time.Hour)
	must(t, err)
	time.Sleep(time.Until(soon) + 100*time.Millisecond)
	must(t, p.Save(ctx, kept, expiring(record("kept"), later), tokencache.Condition{}))

	swept, err := p.Sweep(ctx)
	if must(t, err); swept != 3+3+3+1 {
		t.Errorf("%d records and marks were swept", swept)
	}
	if got := counts(t, db, prefix); got != "2 records, 3 owners, 1 leases" {
		t.Error("left:", got)
	}
	if got, _ := p.Load(ctx, marked); got.Mark != live {
		t.Error("a mark that lives was swept")
	}
	if swept, err = p.Sweep(ctx); err != nil || swept != 0 {
		t.Errorf("again: %d, error %v", swept, err)
	}
}

// Several machines sweep at once, beside writers: each expired record is counted
// once, and nobody waits for another.
func TestSweepByMany(t *testing.T) {
	t.Parallel()
	const rows, machines = 4000, 4
	ctx, prefix := t.Context(), newPrefix()
	db := pool(t, sharedURL(t))
	o := &sqlprovider.Options{Prefix: prefix}
	writer := newProvider(t, sqlprovider.Postgres(db, o))
	for table, columns := range map[string]string{
		"records (owner, partition, version, sealed, expires)": "'owner' || i / 2, 'partition' || i, decode(md5(i::text), 'hex'), '\\x01'::bytea, 1",
		"owners (owner, mark_expires, expires)":                "'owner' || i, 0, 1",
		"leases (owner, partition, holder, expires)":           "'owner' || i, 'partition' || i, '\\x01'::bytea, 1",
	} {
		_, err := db.Exec(ctx, "INSERT INTO "+prefix+table+" SELECT "+columns+fmt.Sprintf(" FROM generate_series(1, %d) AS i", rows))
		must(t, err)
	}
	var total atomic.Int64
	var wg sync.WaitGroup
	for range machines {
		p := newProvider(t, sqlprovider.Postgres(pool(t, sharedURL(t)), o))
		wg.Go(func() {
			count, err := p.Sweep(ctx)
			if err != nil {
				t.Error("Sweep:", err)
			}
			total.Add(int64(count))
		})
	}
	written := make([]tokencache.Name, 50)
	for i := range written {
		written[i] = newName()
		must(t, writer.Save(ctx, written[i], record("beside"), tokencache.Condition{}))
	}
	wg.Wait()
	last, err := writer.Sweep(ctx) // what the others held for each other
	must(t, err)
	if total.Load()+int64(last) != rows {
		t.Errorf("%d and then %d were counted", total.Load(), last)
	}
	if got := counts(t, db, prefix); got != "50 records, 50 owners, 0 leases" {
		t.Error("left:", got)
	}
	for _, n := range written {
		if _, err := writer.Load(ctx, n); err != nil {
			t.Fatal("what was written beside:", err)
		}
	}
}

// What somebody else has locked stays for the next time.
func TestSweepBesideLocks(t *testing.T) {
	t.Parallel()
	o := &sqlprovider.Options{Prefix: newPrefix()}
	db := pool(t, sharedURL(t))
	p := newProvider(t, sqlprovider.Postgres(db, o))
	_, err := db.Exec(t.Context(), "INSERT INTO "+o.Prefix+
		"records (owner, partition, version, expires) SELECT 'o', i::text, '\\x01', 1 FROM generate_series(1, 3000) AS i")
	must(t, err)
	tx, err := db.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), "SELECT FROM "+o.Prefix+"records WHERE partition::integer <= 1200 FOR UPDATE")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if count, err := p.Sweep(ctx); err != nil || count != 1800 {
		t.Errorf("beside who holds 1200: %d, error %v", count, err)
	}
}
