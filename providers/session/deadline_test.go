package session_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/coatcheck-go/coatcheck/providers/session"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// spy remembers what is stored, and how often it is asked to.
type spy struct {
	tokencache.Provider
	last    tokencache.Record
	name    tokencache.Name
	touched int
	saved   int
}

func (s *spy) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	s.name, s.last = n, r
	s.saved++
	return s.Provider.Save(ctx, n, r, c)
}

func (s *spy) Touch(ctx context.Context, n tokencache.Name, v tokencache.Version, expires time.Time) error {
	s.last.Expires = expires
	s.touched++
	return s.Provider.Capabilities().Toucher.Touch(ctx, n, v, expires)
}

func (s *spy) Capabilities() tokencache.Capabilities {
	caps := s.Provider.Capabilities()
	caps.Watcher = nil
	caps.Toucher = s
	return caps
}

// bound is a session with tokens in a provider that is looked at.
type bound struct {
	*ours
	spy *spy
	m   *scs.SessionManager
	ctx context.Context
}

func newBound(t testing.TB) *bound {
	t.Helper()
	s, m := &spy{Provider: newMemory(t)}, inMemory(t)
	app, ctx := signedIn(t, m, &session.Options{Provider: s})
	return &bound{app, s, m, ctx}
}

func (b *bound) wantEnd(t testing.TB, what string, want time.Time) {
	t.Helper()
	got, err := b.spy.Load(t.Context(), b.spy.name)
	must(t, err)
	if off := got.Expires.Sub(want).Abs(); off > time.Second {
		t.Errorf("%s: the tokens end %v from when they should", what, got.Expires.Sub(want))
	}
}

func (b *bound) save(t testing.TB, ctx context.Context, expires time.Time) {
	t.Helper()
	r := tokencache.Record{Sealed: []byte("sealed"), Version: tokencache.NewVersion(), Expires: expires}
	must(t, b.provider.Save(ctx, b.spy.name, r, tokencache.Always()))
}

// inBubble runs a test on a clock of its own.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

func TestDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBound(t)
		first := b.m.Deadline(b.ctx)
		b.wantEnd(t, "signed in", first)

		time.Sleep(10 * time.Minute)
		must(t, b.m.RenewToken(b.ctx))
		second := b.m.Deadline(b.ctx)
		if !second.After(first) {
			t.Fatal("RenewToken has not moved the deadline")
		}
		b.save(t, b.ctx, time.Now().Add(24*time.Hour))
		b.wantEnd(t, "saved after RenewToken", second)

		sooner := time.Now().Add(time.Minute)
		b.save(t, b.ctx, sooner)
		b.wantEnd(t, "that end sooner by themselves", sooner)
		b.save(t, b.ctx, time.Time{})
		b.wantEnd(t, "that would never end", second)

		b.m.SetDeadline(b.ctx, sooner)
		touch := b.provider.Capabilities().Toucher
		must(t, touch.Touch(b.ctx, b.spy.name, b.spy.last.Version, time.Now().Add(24*time.Hour)))
		b.wantEnd(t, "touched after SetDeadline", sooner)
	})
}

// A job outside of a request has no session at hand: it does not go beyond the
// deadline that was seen, nor take back what another machine has given.
func TestDeadlineOfJob(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBound(t)
		deadline := b.m.Deadline(b.ctx)
		b.save(t, t.Context(), time.Now().Add(24*time.Hour))
		b.wantEnd(t, "saved by a job", deadline)
		must(t, b.provider.Touch(t.Context(), b.spy.name, b.spy.last.Version, time.Now().Add(24*time.Hour)))
		b.wantEnd(t, "touched by a job", deadline)

		// The session was renewed on another machine, which has moved the end.
		later := deadline.Add(30 * time.Minute)
		must(t, b.spy.Provider.Capabilities().Toucher.Touch(t.Context(), b.spy.name, b.spy.last.Version, later))
		_, err := b.provider.Load(t.Context(), b.spy.name)
		must(t, err)
		b.save(t, t.Context(), time.Now().Add(24*time.Hour))
		b.wantEnd(t, "saved by a job after another machine", later)

		// This process knows nothing of the session.
		fresh := &bound{&ours{provider: newProvider(t, b.m, &session.Options{Provider: b.spy})}, b.spy, b.m, nil}
		day := time.Now().Add(24 * time.Hour)
		fresh.save(t, t.Context(), day)
		b.wantEnd(t, "saved by a job elsewhere", day)
		// The next request of the session finds it, and brings it back.
		_, err = fresh.provider.Load(b.ctx, b.spy.name)
		must(t, err)
		must(t, fresh.provider.Touch(b.ctx, b.spy.name, b.spy.last.Version, day))
		b.wantEnd(t, "touched in a request", deadline)
	})
}

// A request works with partitions that are not its session's: they have lives of
// their own. So have tombstones, which must outlast what is under way.
func TestDeadlineOfOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBound(t)
		day := time.Now().Add(24 * time.Hour)
		other := tokencache.Name{Owner: b.spy.name.Owner, Partition: "another"}
		r := tokencache.Record{Sealed: []byte("sealed"), Version: tokencache.NewVersion(), Expires: day}
		must(t, b.provider.Save(b.ctx, other, r, tokencache.Condition{}))
		b.wantEnd(t, "another's", day)

		mine := b.m.Deadline(b.ctx)
		visitor := begin(t, b.m, "")
		b.m.SetDeadline(visitor, time.Now().Add(time.Minute))
		b.spy.name = b.nameOf(t)
		b.save(t, visitor, day)
		b.wantEnd(t, "saved in another session", mine)

		must(t, b.provider.Save(b.ctx, b.spy.name, tokencache.Record{Version: tokencache.NewVersion(), Expires: day}, tokencache.Always()))
		b.wantEnd(t, "a tombstone", day)
	})
}

// nameOf is where the tokens of the session are.
func (b *bound) nameOf(t testing.TB) tokencache.Name {
	t.Helper()
	must(t, b.cache.Partition(ticketOf(t, b.ctx, b.ours).Key()).Expire(b.ctx)) // saves
	return b.spy.name
}

// Tokens that last as long as their session are not touched at each load, although the
// Cache would have them live longer.
func TestNoNeedlessTouch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBound(t)
		key := ticketOf(t, b.ctx, b.ours).Key()
		saved, version := b.spy.saved, b.spy.last.Version
		for range 20 {
			time.Sleep(time.Minute) // L1 is empty by then
			must(t, b.cache.Partition(key).Check(b.ctx))
			synctest.Wait()
		}
		if b.spy.touched > 0 || b.spy.saved > saved || b.spy.last.Version != version {
			t.Errorf("%d touches, %d saves", b.spy.touched, b.spy.saved-saved)
		}
		must(t, b.m.RenewToken(b.ctx))
		must(t, b.cache.Partition(key).Check(b.ctx))
		synctest.Wait()
		time.Sleep(time.Minute)
		must(t, b.cache.Partition(key).Check(b.ctx))
		synctest.Wait()
		if b.spy.touched == 0 {
			t.Error("the deadline has moved, and the tokens have not")
		}
		b.wantEnd(t, "after RenewToken", b.m.Deadline(b.ctx))
	})
}

// The tokens of a session end with it, in every store, also if they were refreshed in
// between.
func TestDeadlinePasses(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, sessions *scs.SessionManager, o *session.Options) {
		app, ctx := signedIn(t, sessions, o)
		partition := app.cache.Partition(ticketOf(t, ctx, app).Key())
		sessions.SetDeadline(ctx, time.Now().Add(time.Second))
		must(t, app.refresh(tokencache.NewContext(ctx, partition)))
		time.Sleep(time.Until(sessions.Deadline(ctx)) + 100*time.Millisecond)
		fresh := newCache(t, app.provider, app.keys) // which has nothing in memory
		if err := fresh.Partition(partition.Key()).Check(t.Context()); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("the tokens outlive their session: %v", err)
		}
		for token := range all(t, sessions.Store) {
			if strings.HasPrefix(token, ";") {
				t.Error("a record is left in the store")
			}
		}
	})
}
