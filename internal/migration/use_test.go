package migration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// couple is an application on two stores, within a bubble where time jumps.
type couple struct {
	*testing.T
	a              *authority
	from, to       tokencache.Provider
	source, target *tokencache.Cache
	o              tokencache.MigrateOptions
}

func newCouple(t *testing.T, journaled bool) *couple {
	t.Helper()
	c := &couple{T: t, a: newAuthority(), from: newMemory(t), to: newMemory(t)}
	keys := newKeys(t)
	c.source, c.target = newCache(t, c.from, keys), newCache(t, c.to, keys)
	if c.o.RecordsPerSecond = fast; journaled {
		c.o.Journal = newMemory(t)
	}
	return c
}

func (c *couple) migrate() tokencache.MigrateResult {
	c.Helper()
	return migrate(c.T, c.from, c.to, &c.o)
}

// With a journal the source may be in use between the runs, and so may the target: each
// run brings over what has changed, and nothing else.
func TestJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t, true)
		a := c.a
		tickets := map[string]tokencache.Ticket{}
		for _, user := range []string{"idle", "refreshed", "out", "everywhere", "back", "back everywhere", "ahead", "out there", "everywhere there", "in there"} {
			tickets[user] = a.signIn(t, c.source, user, "")
			tickets[user+"/session"] = a.signIn(t, c.source, user, "s")
		}
		if r := c.migrate(); int(r.Copied) != len(tickets) {
			t.Fatalf("%+v, want %d copied", r, len(tickets))
		}
		time.Sleep(time.Minute)

		// What happens in the source.
		idle := a.token(t, c.source, tickets["idle"])
		a.refresh(t, c.source, tickets["refreshed"])
		refreshed := a.refresh(t, c.source, tickets["refreshed"])
		check(t, c.source.Partition(tickets["out"].Key()).SignOut(t.Context(), a))
		check(t, c.source.Partition(tickets["everywhere"].Key()).SignOutEverywhere(t.Context(), a))
		check(t, c.source.Partition(tickets["back"].Key()).SignOut(t.Context(), a))
		check(t, c.source.Partition(tickets["back everywhere"].Key()).SignOutEverywhere(t.Context(), a))
		time.Sleep(time.Second)
		back, backEverywhere := a.signIn(t, c.source, "back", ""), a.signIn(t, c.source, "back everywhere", "")
		late := a.signIn(t, c.source, "late", "")
		// And in the target.
		ahead := a.refresh(t, c.target, tickets["ahead"])
		check(t, c.target.Partition(tickets["out there"].Key()).SignOut(t.Context(), a))
		check(t, c.target.Partition(tickets["everywhere there"].Key()).SignOutEverywhere(t.Context(), a))
		check(t, c.target.Partition(tickets["in there"].Key()).SignOut(t.Context(), a))
		time.Sleep(time.Second)
		inThere := a.signIn(t, c.target, "in there", "")

		for i := range 3 { // the second time tombstones have gone
			c.migrate()
			who := fmt.Sprintf(", run %d", i+2)
			a.wantToken(t, c.target, tickets["idle"], idle, "idle"+who)
			a.wantToken(t, c.target, tickets["refreshed"], refreshed, "refreshed"+who)
			a.wantToken(t, c.target, back, a.token(t, c.source, back), "back"+who)
			a.wantToken(t, c.target, backEverywhere, a.token(t, c.source, backEverywhere), "back everywhere"+who)
			a.wantToken(t, c.target, late, a.token(t, c.source, late), "late"+who)
			a.wantToken(t, c.target, tickets["ahead"], ahead, "ahead"+who)
			a.wantToken(t, c.target, inThere, a.token(t, c.target, inThere), "in there"+who)
			for _, out := range []string{
				"out", "everywhere", "everywhere/session", "back", "back everywhere", "back everywhere/session",
				"out there", "everywhere there", "everywhere there/session", "in there",
			} {
				a.wantOut(t, c.target, tickets[out], out+who)
			}
			time.Sleep(6 * time.Minute)
		}
		for _, ticket := range []tokencache.Ticket{tickets["idle"], tickets["refreshed"], back, backEverywhere, late, tickets["ahead"], inThere} {
			a.refresh(t, c.target, ticket)
		}
		if a.reused() != 0 {
			t.Errorf("%d refresh tokens were used twice", a.reused())
		}
	})
}

// A run with the journal finds what was signed out since the last one, however long ago,
// by its absence or by the mark of its owner.
func TestRemovedLongAgo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t, true)
		kept, out, everywhere := c.a.signIn(t, c.source, "kept", ""), c.a.signIn(t, c.source, "out", ""), c.a.signIn(t, c.source, "everywhere", "")
		c.migrate()
		check(t, c.source.Partition(out.Key()).SignOut(t.Context(), c.a))
		check(t, c.source.Partition(everywhere.Key()).SignOutEverywhere(t.Context(), c.a))
		time.Sleep(time.Hour)
		if _, err := c.target.Partition(out.Key()).Token(t.Context(), wanted, nil); err == nil {
			t.Fatal("nothing was left to be removed")
		}
		if r := c.migrate(); r.Removed != 2 {
			t.Errorf("%+v, want 2 removed", r)
		}
		c.a.wantOut(t, c.target, out, "out")
		c.a.wantOut(t, c.target, everywhere, "everywhere")
		c.a.refresh(t, c.target, kept)
	})
}

// Of a source that was emptied nothing is removed from the target.
func TestEmptiedSource(t *testing.T) {
	t.Parallel()
	for _, kept := range []int{0, 20} {
		t.Run(fmt.Sprint(kept, " are left"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				from, to := newMemory(t), newMemory(t)
				stored := put(t, from, 500)
				o := &tokencache.MigrateOptions{RecordsPerSecond: fast, Journal: newMemory(t)}
				migrate(t, from, to, o)
				from = newMemory(t)
				for _, n := range stored[:kept] {
					r, err := to.Load(t.Context(), n)
					check(t, err)
					check(t, from.Save(t.Context(), n, r, tokencache.Condition{}))
				}
				for range 2 { // also when it goes on from where it has ended
					r, err := tokencache.Migrate(t.Context(), from, to, o)
					if err == nil || r.Cursor == "" || int(r.Removed) > kept {
						t.Errorf("%+v, error %v", r, err)
					}
					o.Cursor = r.Cursor
				}
				removed := 0
				for _, n := range stored {
					if r, err := to.Load(t.Context(), n); err != nil || r.Removed() {
						removed++
					}
				}
				if removed > kept {
					t.Errorf("%d of 500 were removed, with %d left in the source", removed, kept)
				}
			})
		})
	}
}

// A sign-out everywhere that was cut short has set its mark only, which hides what there
// is. It is hidden in the target too, until it expires.
func TestHiddenByMark(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys, a, from := newKeys(t), newAuthority(), newMemory(t)
		broken := providertest.NewFaults(from)
		short := func(p tokencache.Provider) *tokencache.Cache {
			return newCacheWith(t, p, &tokencache.Options{Keys: keys, IdleTimeout: 10 * time.Minute})
		}
		source := short(broken)
		hide := func(user string) (own, session tokencache.Ticket) {
			own, session = a.signIn(t, source, user, ""), a.signIn(t, source, user, "s")
			time.Sleep(time.Second)
			broken.Set(func(ctx context.Context, c *providertest.Call) error {
				if c.Record.Removed() {
					return providertest.ErrFault
				}
				return c.Do(ctx)
			}, providertest.OpSave)
			if err := source.Partition(own.Key()).SignOutEverywhere(t.Context(), a); err == nil {
				t.Fatal("it was not cut short")
			}
			broken.Clear()
			time.Sleep(time.Second)
			return own, session
		}
		gone, goneSession := hide("gone")
		was, wasSession := hide("back")
		back := a.signIn(t, source, "back", "")
		other, otherSession := hide("there")
		for journaled, kind := range []string{"without a journal", "with one"} {
			to := newMemory(t)
			target := short(to)
			there := a.signIn(t, target, "there", "")
			token := a.token(t, target, there)
			o := &tokencache.MigrateOptions{RecordsPerSecond: fast}
			if journaled == 1 {
				o.Journal = newMemory(t)
			}
			for range 2 {
				migrate(t, from, to, o)
				for who, ticket := range map[string]tokencache.Ticket{
					"gone": gone, "gone/session": goneSession, "was": was, "was/session": wasSession, "there": other, "there/session": otherSession,
				} {
					a.wantOut(t, target, ticket, who+", "+kind)
				}
				a.wantToken(t, target, back, a.token(t, source, back), "back, "+kind)
				a.wantToken(t, target, there, token, "there, "+kind)
			}
			// Whatever is alive at any time later, those are not.
			for range 20 {
				time.Sleep(time.Minute)
				for who, ticket := range map[string]tokencache.Ticket{"gone": gone, "was/session": wasSession, "there/session": otherSession} {
					a.wantOut(t, target, ticket, who+", later, "+kind)
				}
			}
			gone, goneSession = hide("gone")
			was, wasSession = hide("back")
			back = a.signIn(t, source, "back", "")
			other, otherSession = hide("there")
		}
	})
}

// Without a journal the target is in use: whoever has signed in there keeps that, and
// whoever has signed out everywhere stays out.
func TestTargetInUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t, false)
		tickets := map[string]tokencache.Ticket{}
		const users = 60
		for i := range users {
			user := fmt.Sprint("user", i)
			tickets[user] = c.a.signIn(t, c.source, user, "")
		}
		c.o.RecordsPerSecond = 20
		var running sync.WaitGroup
		for range 2 { // machines
			running.Go(func() { c.migrate() })
		}
		newer, out := map[string]tokencache.Token{}, map[string]bool{}
		for i := 0; i < users; i += 3 {
			time.Sleep(50 * time.Millisecond)
			user := fmt.Sprint("user", i)
			ticket := c.a.signIn(t, c.target, user, "")
			if i%2 == 0 {
				check(t, c.target.Partition(ticket.Key()).SignOutEverywhere(t.Context(), c.a))
				out[user] = true
				continue
			}
			tickets[user] = ticket
			newer[user] = c.a.token(t, c.target, ticket)
		}
		running.Wait()
		time.Sleep(10 * time.Minute)
		c.migrate()
		for user, ticket := range tickets {
			switch token, ok := newer[user]; {
			case out[user]:
				c.a.wantOut(t, c.target, ticket, user)
			case ok:
				c.a.wantToken(t, c.target, ticket, token, user)
			default:
				c.a.refresh(t, c.target, ticket)
			}
		}
	})
}

// What changes in the source while it is on its way is not left behind: neither a stale
// refresh token, nor a sign-in that has ended.
func TestChangedOnItsWay(t *testing.T) {
	t.Parallel()
	for _, journaled := range []bool{false, true} {
		t.Run(fmt.Sprint("journal ", journaled), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCouple(t, journaled)
				first, second, third := c.a.signIn(t, c.source, "1", ""), c.a.signIn(t, c.source, "2", ""), c.a.signIn(t, c.source, "3", "")
				target := providertest.NewFaults(c.to)
				var begun atomic.Bool
				changed := make(chan struct{}) // a mutex would keep the bubble's time from going on
				target.Set(func(ctx context.Context, call *providertest.Call) error {
					if begun.CompareAndSwap(false, true) {
						c.a.refresh(t, c.source, first)
						check(t, c.source.Partition(second.Key()).SignOut(t.Context(), c.a))
						check(t, c.source.Partition(third.Key()).SignOutEverywhere(t.Context(), c.a))
						// And the tombstone has gone.
						for _, n := range names(t, c.from) {
							if r, err := c.from.Load(t.Context(), n); err == nil && r.Removed() && r.Mark != (tokencache.Version{}) {
								check(t, c.from.Save(t.Context(), n, tokencache.Record{Version: tokencache.NewVersion(), Expires: time.Now().Add(-1)}, tokencache.Always()))
							}
						}
						close(changed)
					}
					<-changed
					return call.Do(ctx)
				}, providertest.OpSave)
				c.o.AtOnce = 3
				migrate(t, c.from, target, &c.o)
				c.a.wantToken(t, c.target, first, c.a.token(t, c.source, first), "refreshed")
				c.a.wantOut(t, c.target, second, "out")
				c.a.wantOut(t, c.target, third, "everywhere")
				c.a.refresh(t, c.target, first)
			})
		})
	}
}

// Two machines migrate over and over, with one journal, while the source changes in all
// ways. When it is quiet, the target is as the source, but for what was changed there.
func TestStorm(t *testing.T) {
	t.Parallel()
	from, to, journal := newMemory(t), newMemory(t), newMemory(t)
	stored := put(t, from, 200)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var all sync.WaitGroup
	own := map[tokencache.Name]tokencache.Version{}
	for i := range 2 {
		all.Go(func() {
			for ctx.Err() == nil {
				o := &tokencache.MigrateOptions{RecordsPerSecond: fast, Journal: journal, AtOnce: 4 + i}
				if _, err := tokencache.Migrate(ctx, from, to, o); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			n, r := stored[rand.N(len(stored))], sealed(i)
			if i%5 == 0 {
				r.Sealed, r.Expires = nil, time.Now().Add(time.Duration(rand.N(20))*time.Millisecond)
			}
			check(t, from.Save(t.Context(), n, r, tokencache.Always()))
			if n := stored[rand.N(20)]; i%10 == 0 {
				if r := sealed(-i); to.Save(t.Context(), n, r, tokencache.Always()) == nil {
					own[n] = r.Version
				}
			}
			time.Sleep(100 * time.Microsecond)
		}
	})
	all.Wait()
	migrate(t, from, to, &tokencache.MigrateOptions{RecordsPerSecond: fast, Journal: journal})
	for _, n := range stored {
		src, serr := from.Load(t.Context(), n)
		dst, derr := to.Load(t.Context(), n)
		switch v, ok := own[n]; {
		case ok:
			if dst.Version != v {
				t.Error("what the target had of its own was replaced")
			}
		case serr == nil && !src.Removed() && (derr != nil || dst.Version != src.Version):
			t.Errorf("a record of the source is not in the target: error %v, removed %v", derr, dst.Removed())
		case (serr != nil || src.Removed()) && derr == nil && !dst.Removed():
			t.Error("what the source has removed is in the target")
		}
	}
}
