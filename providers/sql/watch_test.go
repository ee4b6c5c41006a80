package sql_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// watch watches in the background until the test ends, and returns the changes.
func watch(t *testing.T, p *sqlprovider.Provider) <-chan tokencache.Change {
	t.Helper()
	changes := make(chan tokencache.Change, 10000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Watch(ctx, func(c tokencache.Change) { changes <- c }); !errors.Is(err, context.Canceled) {
			t.Error("Watch:", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return changes
}

// next waits for a change that is Missed, or is not, and returns it.
func next(t *testing.T, changes <-chan tokencache.Change, limit time.Duration, missed bool) tokencache.Change {
	t.Helper()
	late := time.After(limit)
	for {
		select {
		case c := <-changes:
			if c.Missed == missed {
				return c
			}
		case <-late:
			t.Fatalf("no change with Missed %v within %v", missed, limit)
		}
	}
}

// nothing wants no change, not even Missed, for a few polls.
func nothing(t *testing.T, changes <-chan tokencache.Change) {
	t.Helper()
	select {
	case c := <-changes:
		t.Errorf("a change for no reason (Missed %v)", c.Missed)
	case <-time.After(700 * time.Millisecond):
	}
}

// saver saves in a transaction of its own, which has its number once it has saved.
type saver struct {
	tx pgx.Tx
	n  tokencache.Name
}

func newSaver(t *testing.T, o *sqlprovider.Options) *saver {
	t.Helper()
	tx, p := begin(t, sharedURL(t), pgx.ReadCommitted, o)
	s := &saver{tx, newName()}
	must(t, p.Save(t.Context(), s.n, record("in flight"), tokencache.Condition{}))
	return s
}

// Transactions commit in another order than they began in, one is very long, and
// others are rolled back. Each change is told when it is there, and once.
func TestWatchCommitsOutOfOrder(t *testing.T) {
	t.Parallel()
	ctx, o := t.Context(), &sqlprovider.Options{Prefix: newPrefix()}
	p := newProvider(t, sqlprovider.Postgres(pool(t, sharedURL(t)), o))
	long := newSaver(t, o) // from before the Watch
	changes := watch(t, p)
	next(t, changes, 2*time.Second, true)
	var savers []*saver
	for range 5 {
		savers = append(savers, newSaver(t, o))
	}
	for _, i := range []int{3, 0, 4, 2} {
		must(t, savers[i].tx.Commit(ctx))
		if c := next(t, changes, 2*time.Second, false); c.Name != savers[i].n {
			t.Errorf("not the change that was committed")
		}
		n, r := newName(), record("between")
		must(t, p.Save(ctx, n, r, tokencache.Condition{}))
		if c := next(t, changes, 2*time.Second, false); c.Name != n || c.Version != r.Version {
			t.Errorf("not the change that was made in between")
		}
	}
	must(t, savers[1].tx.Rollback(ctx))
	nothing(t, changes)
	must(t, long.tx.Commit(ctx))
	if c := next(t, changes, 2*time.Second, false); c.Name != long.n {
		t.Error("not the change of the long transaction")
	}
	nothing(t, changes)
}

// More changes at once than are told one by one are Missed.
func TestWatchFlood(t *testing.T) {
	t.Parallel()
	o := &sqlprovider.Options{Prefix: newPrefix()}
	db := pool(t, sharedURL(t))
	p := newProvider(t, sqlprovider.Postgres(db, o))
	changes := watch(t, p)
	next(t, changes, 2*time.Second, true)
	for count, missed := range map[int]bool{2000: false, 2001: true} {
		_, err := db.Exec(t.Context(), "INSERT INTO "+o.Prefix+fmt.Sprintf("records (owner, partition, version, expires) "+
			"SELECT 'o%d', i::text, '\\x00112233445566778899aabbccddeeff', 1 FROM generate_series(1, %d) AS i", count, count))
		must(t, err)
		next(t, changes, 3*time.Second, missed)
		time.Sleep(time.Second)
		for len(changes) > 0 {
			if c := <-changes; c.Missed {
				t.Errorf("of %d changes, some are Missed", count)
			}
		}
	}
}

// Records that were copied from a server with higher transaction numbers are not
// told over and over.
func TestWatchCopied(t *testing.T) {
	t.Parallel()
	o := &sqlprovider.Options{Prefix: newPrefix()}
	db := pool(t, sharedURL(t))
	p := newProvider(t, sqlprovider.Postgres(db, o))
	changes := watch(t, p)
	next(t, changes, 2*time.Second, true)
	for i, change := range []string{"18446744073709551615", "1000000000000"} {
		_, err := db.Exec(t.Context(), "INSERT INTO "+o.Prefix+"records (owner, partition, version, expires, change) "+
			"VALUES ('copied', $1, '\\x00112233445566778899aabbccddeeff', 1, $2::text::xid8)", fmt.Sprint(i), change)
		must(t, err)
	}
	nothing(t, changes)
	n := newName()
	must(t, p.Save(t.Context(), n, record("heard"), tokencache.Condition{}))
	if c := next(t, changes, 2*time.Second, false); c.Name != n {
		t.Error("another change was told")
	}
}

// Whatever becomes of the database, changes are told again soon after, and begin
// with Missed.
func TestWatchOutages(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]func(*testing.T, *testserver.Proxy, *testserver.Postgres){
		"cut": func(_ *testing.T, proxy *testserver.Proxy, _ *testserver.Postgres) {
			proxy.Set(testserver.Fault{Cut: true})
			time.Sleep(time.Second)
			proxy.Heal()
		},
		"hung": func(_ *testing.T, proxy *testserver.Proxy, _ *testserver.Postgres) {
			proxy.Set(testserver.Fault{Hang: true})
			time.Sleep(4 * time.Second) // longer than a poll may take, and the time between two
			proxy.Heal()
		},
		"half-open": func(_ *testing.T, proxy *testserver.Proxy, _ *testserver.Postgres) {
			proxy.Set(testserver.Fault{HalfOpen: true})
			proxy.Heal()
		},
		"killed": func(t *testing.T, _ *testserver.Proxy, s *testserver.Postgres) {
			must(t, errors.Join(s.Kill(), s.Start()))
		},
		"stopped": func(t *testing.T, _ *testserver.Proxy, s *testserver.Postgres) {
			must(t, errors.Join(s.Stop(), s.Start()))
		},
	} {
		for _, listening := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, listening %v", name, listening), func(t *testing.T) {
				t.Parallel()
				s := testserver.NewPostgres(t)
				proxy := testserver.NewProxy(t, s.Addr())
				var log journal
				o := &sqlprovider.Options{Log: log.logger()}
				if listening {
					o.Listen = func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, s.URLAt(proxy.Addr())) }
				}
				p := newProvider(t, sqlprovider.Postgres(pool(t, s.URLAt(proxy.Addr())), o))
				writer := newProvider(t, sqlprovider.Postgres(pool(t, s.URL()), o))
				changes := watch(t, p)
				next(t, changes, 2*time.Second, true)
				must(t, writer.Save(t.Context(), newName(), record("heard"), tokencache.Condition{}))
				next(t, changes, 2*time.Second, false)

				outage(t, proxy, s)
				next(t, changes, 6*time.Second, true)
				for range 3 {
					eventually(t, 2*time.Second, "it is saved", func() bool {
						return writer.Save(t.Context(), newName(), record("heard"), tokencache.Condition{}) == nil
					})
					next(t, changes, 2*time.Second, false)
				}
				if got := log.count("not heard of"); got > 2 {
					t.Errorf("%d warnings for one outage", got)
				}
				if log.count("127.0.0.1") > 0 || log.count("user=") > 0 {
					t.Error("an address or a user is in the log")
				}
			})
		}
	}
}

// A change is heard of at once where there is a connection that listens, and within
// the interval where that cannot be made.
func TestListen(t *testing.T) {
	t.Parallel()
	s := testserver.NewPostgres(t)
	proxy := testserver.NewProxy(t, s.Addr())
	var log journal
	o := &sqlprovider.Options{
		Log:    log.logger(),
		Listen: func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, s.URLAt(proxy.Addr())) },
	}
	p := newProvider(t, sqlprovider.Postgres(pool(t, s.URL()), o))
	changes := watch(t, p)
	next(t, changes, 2*time.Second, true)
	usually := func(saves int) time.Duration { // the median
		var all []time.Duration
		for range saves {
			time.Sleep(30 * time.Millisecond)
			n := newName()
			must(t, p.Save(t.Context(), n, record("heard"), tokencache.Condition{}))
			began := time.Now()
			next(t, changes, 2*time.Second, false)
			all = append(all, time.Since(began))
		}
		slices.Sort(all)
		return all[saves/2]
	}
	time.Sleep(100 * time.Millisecond)
	if took := usually(21); took > 60*time.Millisecond {
		t.Errorf("a change was heard of after %v", took)
	}
	proxy.Set(testserver.Fault{Cut: true})
	if took := usually(7); took > 500*time.Millisecond {
		t.Errorf("without the connection, a change was heard of after %v", took)
	}
	if got := log.count("no connection that listens"); got != 1 {
		t.Errorf("%d warnings", got)
	}
	if log.count("127.0.0.1") > 0 || log.count("user=") > 0 {
		t.Error("an address or a user is in the log")
	}
	proxy.Heal()
	eventually(t, 5*time.Second, "it listens again", func() bool { return usually(5) < 60*time.Millisecond })
}

// A Watch asks again and again for a database that is not there yet, and says so
// once; it ends with its provider.
func TestWatchEndsWithProvider(t *testing.T) {
	t.Parallel()
	var log journal
	o := &sqlprovider.Options{Prefix: newPrefix(), Log: log.logger()}
	db := pool(t, sharedURL(t))
	p := newProvider(t, sqlprovider.Postgres(db, o))
	_, err := db.Exec(t.Context(), "ALTER TABLE "+o.Prefix+"records RENAME TO "+o.Prefix+"gone")
	must(t, err)
	done := make(chan error, 1)
	changes := make(chan tokencache.Change, 100)
	go func() { done <- p.Watch(context.Background(), func(c tokencache.Change) { changes <- c }) }()
	time.Sleep(1200 * time.Millisecond)
	if got := log.count("42P01"); got < 1 || got > 4 {
		t.Errorf("%d warnings", got)
	}
	_, err = db.Exec(t.Context(), "ALTER TABLE "+o.Prefix+"gone RENAME TO "+o.Prefix+"records")
	must(t, err)
	time.Sleep(time.Second)
	for len(changes) > 0 {
		<-changes
	}
	must(t, p.Save(t.Context(), newName(), record("heard"), tokencache.Condition{}))
	next(t, changes, 2*time.Second, false)
	must(t, p.Close(t.Context()))
	select {
	case err := <-done:
		if err == nil || errors.Is(err, context.Canceled) {
			t.Error("Watch of a provider that was closed:", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Watch goes on")
	}
}

// A change tells what it has replaced, and nothing where there was nothing any
// more.
func TestWatchTellsWhatWasReplaced(t *testing.T) {
	t.Parallel()
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		o := &sqlprovider.Options{Prefix: newPrefix()}
		tellsWhatWasReplaced(t, newProvider(t, sqlprovider.Postgres(pool(t, sharedURL(t)), o)))
	})
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		tellsWhatWasReplaced(t, machine(t, newFile(t)))
	})
}

func tellsWhatWasReplaced(t *testing.T, p *sqlprovider.Provider) {
	t.Helper()
	ctx := t.Context()
	changes := watch(t, p)
	next(t, changes, 2*time.Second, true)
	n, was := newName(), tokencache.Version{}
	short := record("that is over soon")
	short.Expires = time.Now().Add(50 * time.Millisecond)
	for i, save := range []struct {
		r    tokencache.Record
		cond func() tokencache.Condition
	}{
		{record("the first"), func() tokencache.Condition { return tokencache.Condition{} }},
		{record("by version"), func() tokencache.Condition { return tokencache.IfVersion(was) }},
		{record("whatever it was"), tokencache.Always},
		{tombstone(), func() tokencache.Condition { return tokencache.IfVersion(was) }},
		{short, tokencache.Always},
	} {
		must(t, p.Save(ctx, n, save.r, save.cond()))
		want := tokencache.Change{Name: n, Version: save.r.Version, Replaced: was}
		if got := next(t, changes, 2*time.Second, false); got != want {
			t.Errorf("change %d is told as %+v, want %+v", i, got, want)
		}
		was = save.r.Version
	}
	time.Sleep(100 * time.Millisecond)
	again := record("after it was over")
	must(t, p.Save(ctx, n, again, tokencache.Condition{}))
	if got := next(t, changes, 2*time.Second, false); got.Replaced != (tokencache.Version{}) {
		t.Error("what was over was replaced")
	}
}
