package migration_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// Users who signed in through one store are found in the other, with the same tokens,
// and go on there. Who signed out stays out, and what was done once is.
func TestDirections(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, d := range [][2]string{
		{"memory", "redis"}, {"redis", "postgres"}, {"postgres", "redis"}, {"sqlite", "postgres"},
		{"postgres", "sqlite"}, {"redis", "memory"}, {"memory", "sqlite"},
	} {
		for _, journaled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s to %s, journal %v", d[0], d[1], journaled), func(t *testing.T) {
				t.Parallel()
				o := &tokencache.MigrateOptions{}
				if journaled {
					o.Journal = l.open(t, d[1])
				}
				direction(t, l.open(t, d[0]), l.open(t, d[1]), o)
			})
		}
	}
}

func direction(t *testing.T, from, to tokencache.Provider, o *tokencache.MigrateOptions) {
	a, keys := newAuthority(), newKeys(t)
	source, target := newCache(t, from, keys), newCache(t, to, keys)
	tickets, tokens := map[string]tokencache.Ticket{}, map[string]tokencache.Token{}
	for i := range 8 {
		user := fmt.Sprint("user", i)
		tickets[user] = a.signIn(t, source, user, "")
		tickets[user+"/session"] = a.signIn(t, source, user, "session")
	}
	a.refresh(t, source, tickets["user1"])
	check(t, source.Partition(tickets["user2"].Key()).SignOut(t.Context(), a))
	a.signOut(t, source, tickets["user3"])
	a.signOut(t, source, tickets["user4"])
	time.Sleep(2 * time.Millisecond)
	again := a.signIn(t, source, "user4", "")
	out := map[string]tokencache.Ticket{}
	for _, who := range []string{"user2", "user3", "user3/session", "user4", "user4/session"} {
		out[who] = tickets[who]
		delete(tickets, who)
	}
	tickets["user4 again"] = again
	for who, ticket := range tickets {
		tokens[who] = a.token(t, source, ticket)
	}
	once := func(c *tokencache.Cache) bool {
		done, err := c.Once(t.Context(), "logout token", time.Now().Add(time.Hour), func(context.Context) error { return nil })
		check(t, err)
		return done
	}
	once(source)

	first := migrate(t, from, to, o)
	if int(first.Copied) != len(tickets) || first.Left != 0 {
		t.Errorf("copied %+v, want %d", first, len(tickets))
	}
	wantSame(t, from, to)
	second := migrate(t, from, to, o)
	if second.Same != first.Names || second.Copied+second.Removed != 0 {
		t.Errorf("again: %+v, want nothing to do", second)
	}
	for who, ticket := range tickets {
		a.wantToken(t, target, ticket, tokens[who], who)
	}
	for who, ticket := range out {
		a.wantOut(t, target, ticket, who)
	}
	if once(target) {
		t.Error("what was done once was done again")
	}
	for _, ticket := range tickets {
		a.refresh(t, target, ticket)
	}
	if a.reused() != 0 {
		t.Errorf("%d refresh tokens were used twice", a.reused())
	}
	// What has gone on there is not touched by one more run.
	for who, ticket := range tickets {
		tokens[who] = a.token(t, target, ticket)
	}
	migrate(t, from, to, o)
	for who, ticket := range tickets {
		a.wantToken(t, target, ticket, tokens[who], who+", later")
	}
	// Signing out everywhere finds what was copied.
	a.signOut(t, target, tickets["user5"])
	a.wantOut(t, target, tickets["user5/session"], "user5/session")
	migrate(t, from, to, o)
	a.wantOut(t, target, tickets["user5"], "user5")
	a.wantOut(t, target, tickets["user5/session"], "user5/session, after one more run")
}

// Ten thousand records at a bounded rate, and it is told how far it is.
func TestMany(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	from, to := l.open(t, "memory"), l.open(t, "redis")
	const count, rate = 10_000, 4000
	put(t, from, count)
	var told []tokencache.MigrateResult
	began := time.Now()
	r := migrate(t, from, to, &tokencache.MigrateOptions{
		RecordsPerSecond: rate, AtOnce: 32, Progress: func(r tokencache.MigrateResult) { told = append(told, r) },
	})
	took := time.Since(began)
	if r.Copied != count {
		t.Errorf("copied %+v, want %d", r, count)
	}
	if least := time.Second * count / rate * 95 / 100; took < least {
		t.Errorf("it took %v, want at least %v", took, least)
	}
	if most := int(took/time.Second) + 1; len(told) > most || len(told) < 2 || told[len(told)-1] != r {
		t.Errorf("in %v it was told %d times, the last time %+v", took, len(told), told[len(told)-1])
	}
	for i := 1; i < len(told); i++ {
		if told[i].Names <= told[i-1].Names {
			t.Errorf("the progress went from %d to %d", told[i-1].Names, told[i].Names)
		}
	}
	wantSame(t, from, to)
	// From a cursor on the way, as of a process that was killed.
	for _, at := range told {
		if at.Cursor == "" {
			continue // the beginning, on a busy machine, or the end
		}
		rest := migrate(t, from, to, &tokencache.MigrateOptions{Cursor: at.Cursor, RecordsPerSecond: fast})
		if rest.Same >= count || rest.Same != rest.Names {
			t.Errorf("from the middle on: %+v", rest)
		}
		break
	}
}

// A cursor of another store is refused, and so is one that was altered.
func TestCursor(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cursors := map[string]string{}
	stores := map[string]tokencache.Provider{}
	for _, kind := range []string{"memory", "redis", "postgres", "sqlite"} {
		stores[kind] = l.open(t, kind)
		put(t, stores[kind], 300)
		ctx, cancel := context.WithCancel(t.Context())
		to := newMemory(t)
		r, err := tokencache.Migrate(ctx, cancelling(stores[kind], 540, cancel), to, nil)
		if !errors.Is(err, context.Canceled) || r.Cursor == "" {
			t.Fatalf("%s: cancelled: %+v, error %v", kind, r, err)
		}
		cursors[kind] = r.Cursor
		if rest := migrate(t, stores[kind], to, &tokencache.MigrateOptions{Cursor: r.Cursor}); rest.Names >= 300 && kind != "redis" {
			t.Errorf("%s: from the cursor on: %+v", kind, rest)
		}
		wantSame(t, stores[kind], to)
	}
	for kind, cursor := range cursors {
		for _, altered := range []string{cursor[:len(cursor)-1], cursor + "A", "x" + cursor, cursor[:30] + "A" + cursor[31:], "cc-migrate-1."} {
			if altered == cursor {
				continue
			}
			if _, err := tokencache.Migrate(t.Context(), stores[kind], newMemory(t), &tokencache.MigrateOptions{Cursor: altered}); !errors.Is(err, tokencache.ErrCursor) {
				t.Errorf("%s with a cursor that was altered: error %v, want ErrCursor", kind, err)
			}
		}
		for other, p := range stores {
			if other == kind {
				continue
			}
			if _, err := tokencache.Migrate(t.Context(), p, newMemory(t), &tokencache.MigrateOptions{Cursor: cursor}); !errors.Is(err, tokencache.ErrCursor) {
				t.Errorf("%s with a cursor of %s: error %v, want ErrCursor", other, kind, err)
			}
		}
	}
}

// cancelling cancels with one of the provider's calls.
func cancelling(p tokencache.Provider, call int64, cancel func()) tokencache.Provider {
	var calls atomic.Int64
	f := providertest.NewFaults(p)
	f.Set(func(ctx context.Context, c *providertest.Call) error {
		if calls.Add(1) == call {
			cancel()
		}
		return c.Do(ctx)
	})
	return f
}
