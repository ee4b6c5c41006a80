package redis_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// listed goes through all pages from the cursor on.
func listed(t *testing.T, p *redisprovider.Provider, cursor string) (names map[tokencache.Name]bool, pages int) {
	t.Helper()
	names = make(map[tokencache.Name]bool)
	for pages = 1; ; pages++ {
		page, next, err := p.Names(t.Context(), cursor)
		must(t, err)
		for _, n := range page {
			names[n] = true
		}
		if next == "" {
			return names, pages
		}
		if cursor = next; pages > 10_000 {
			t.Fatal("there is no end")
		}
	}
}

// fill saves records under new names.
func fill(t *testing.T, p *redisprovider.Provider, count int) map[tokencache.Name]bool {
	t.Helper()
	names := make(map[tokencache.Name]bool)
	for range count {
		n := newName()
		must(t, p.Save(t.Context(), n, record("there"), tokencache.Condition{}))
		names[n] = true
	}
	return names
}

func wantNames(t *testing.T, got, want map[tokencache.Name]bool) {
	t.Helper()
	for n := range want {
		if !got[n] {
			t.Fatalf("of %d names, %d are listed", len(want), len(got))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d names are listed, want %d", len(got), len(want))
	}
}

// Keys of others, marks, indexes and leases are no names, whatever the prefix looks
// like, and a prefix that begins with another one is not mixed up with it.
func TestNamesAmongOthers(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	client := connect(t, s.Addr(), patient)
	want := make(map[string]map[tokencache.Name]bool)
	for _, prefix := range []string{"a:", "*", "[a]:", "a?", `a\`, "^a", "a:b:"} {
		p := newProvider(t, client, &redisprovider.Options{Prefix: prefix})
		want[prefix] = fill(t, p, 30)
	}
	for i := range 3000 {
		must(t, client.Set(t.Context(), fmt.Sprint("other:{x}:r:", i), "x", 0).Err())
	}
	for prefix, names := range want {
		got, _ := listed(t, newProvider(t, client, &redisprovider.Options{Prefix: prefix}), "")
		wantNames(t, got, names)
	}
}

// A server that was started anew has another order. The cursor of before begins anew.
func TestNamesAfterRestart(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t, "appendonly yes", "appendfsync always")
	p := newProvider(t, connect(t, s.Addr(), patient), nil)
	want := fill(t, p, 1500)
	_, cursor, err := p.Names(t.Context(), "")
	must(t, err)
	_, cursor, err = p.Names(t.Context(), cursor)
	must(t, err)
	rest, _ := listed(t, p, cursor)
	if len(rest) >= len(want) {
		t.Fatal("the cursor did not go on where it was")
	}
	must(t, s.Kill())
	must(t, s.Start())
	got, _ := listed(t, p, cursor)
	wantNames(t, got, want)
}

func TestNamesCursor(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	client := connect(t, s.Addr(), patient)
	p := newProvider(t, client, nil)
	fill(t, p, 600)
	_, cursor, err := p.Names(t.Context(), "")
	must(t, err)
	other := newProvider(t, client, &redisprovider.Options{Prefix: "other:"})
	if _, _, err := other.Names(t.Context(), cursor); !errors.Is(err, tokencache.ErrCursor) {
		t.Errorf("the cursor of another prefix: got error %v, want ErrCursor", err)
	}
}

// The package comment says what it takes.
func TestNamesAccessList(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	admin := connect(t, s.Addr())
	p := newProvider(t, connect(t, s.Addr(), patient, func(o *redis.UniversalOptions) { o.Username, o.Password = "app", "marker-app" }),
		&redisprovider.Options{Log: new(journal).logger()})
	grant := func(more ...any) {
		t.Helper()
		rules := append([]any{"ACL", "SETUSER", "app", "reset", "on", ">marker-app"}, accessList(t)...)
		must(t, admin.Do(t.Context(), append(rules, more...)...).Err())
	}
	for _, few := range [][]any{{"+info"}, {"+scan"}} {
		grant(few...)
		if _, _, err := p.Names(t.Context(), ""); err == nil {
			t.Errorf("with %v alone it was answered", few)
		}
	}
	grant("+info", "+scan")
	_, _, err := p.Names(t.Context(), "")
	must(t, err)
}
