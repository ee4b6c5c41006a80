package main

import (
	"context"
	"errors"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Both sides of a comparison must move the same bytes, under the same keys.
func TestPostgresSides(t *testing.T) {
	b := started(t, startPostgres)
	s, err := newSaver(b.provider, 3, 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.saves(1, 5); err != nil {
		t.Fatal(err)
	}
	upserts, err := b.upserts(3, 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	if err := upserts(1, 5); err != nil {
		t.Fatal(err)
	}
	var same bool
	if err := b.pool.QueryRow(context.Background(), `
		SELECT count(*) = 3 AND bool_and(octet_length(r.sealed) = octet_length(bare.value)
			AND pg_column_size(r.sealed) = pg_column_size(bare.value) AND length(r.owner || r.partition) = length(bare.owner || bare.partition))
		FROM (SELECT *, row_number() OVER () AS i FROM coatcheck_records) r
		JOIN (SELECT *, row_number() OVER () AS i FROM bare) bare USING (i)`).Scan(&same); err != nil || !same {
		t.Errorf("the rows of both sides are alike: %t, error %v", same, err)
	}
	size, err := b.length(s.names[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := b.selects(s.names, size)(0, 4); err != nil {
		t.Error("select:", err)
	}
	if err := b.selects(s.names, size+101)(0, 1); !errors.Is(err, errMiss) {
		t.Errorf("a value that is too short: error %v, want %v", err, errMiss)
	}
	other := saver{provider: b.provider, names: s.names, records: []tokencache.Record{{Version: tokencache.NewVersion()}}}
	if err := other.saves(0, 1); !errors.Is(err, tokencache.ErrConflict) {
		t.Errorf("a save with another's version: error %v, want %v", err, tokencache.ErrConflict)
	}
}

// What is copied in bulk is what the provider stores.
func TestPostgresStock(t *testing.T) {
	b := started(t, startPostgres)
	ctx := context.Background()
	copying := &copying{Provider: b.provider, to: b}
	noted := &noting{Provider: copying, most: activeUsers}
	const users = 1100
	if _, err := stock(noted, users, goroutines); err != nil {
		t.Fatal(err)
	}
	if err := copying.flush(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.size(users); err != nil {
		t.Error(err)
	}
	saver, err := saverOf(b.provider, noted.names)
	if err != nil {
		t.Fatal(err)
	}
	if err := saver.saves(0, activeUsers); err != nil {
		t.Error("what was copied cannot be saved over:", err)
	}
	cache, err := newCache(b.provider, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cache.Close(ctx) }()
	for i := range users + 1 {
		all, err := cache.Partition(tokencache.AccountKey(accountID(i))).Tokens(ctx)
		if (err == nil) != (i < users) {
			t.Errorf("user %d of %d: error %v", i, users, err)
		}
		if err == nil && (len(all.Accounts()) != 1 || all.Accounts()[0].ID != accountID(i)) {
			t.Errorf("user %d has the accounts of another", i)
		}
	}
}
