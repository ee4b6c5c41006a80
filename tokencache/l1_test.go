package tokencache

import (
	"testing"
	"testing/synctest"
	"time"
)

const testMaxAge = 10500 * time.Millisecond

// newTestL1 returns an L1, and a state of a partition for it.
func newTestL1(t *testing.T) (*l1, func() *state) {
	t.Helper()
	l, err := newL1(1<<20, testMaxAge)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l, func() *state {
		return &state{name: Name{"owner", "partition"}, found: true, version: NewVersion(), snap: &snapshot{}}
	}
}

var testL1ID = keyID{kind: kindAccount, account: "a"}

// A sign-out is told by name: what is put in the place of an expired entry must be
// found by it, however late the expired one goes.
func TestL1DropsWhatReplacedAnExpiredEntry(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*l1){
		"put over it":      func(*l1) {},
		"looked up before": func(l *l1) { l.get(&testL1ID) },
		"swept before":     func(*l1) { time.Sleep(5 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, newState := newTestL1(t)
				st := newState()
				l.keep(testL1ID, st, l.epoch(st.name))
				time.Sleep(testMaxAge + 10*time.Millisecond) // expired, and not swept yet
				before(l)
				st = newState()
				l.keep(testL1ID, st, l.epoch(st.name))
				if l.get(&testL1ID) != st {
					t.Fatal("the state is not in L1: the test looks at nothing")
				}
				synctest.Wait() // the expired one has gone
				l.drop(st.name)
				if l.get(&testL1ID) != nil {
					t.Error("the partition is served after its removal")
				}
			})
		})
	}
}

// Where copies may not be used, there are none, not even for a moment.
func TestL1OfNoAgeKeepsNothing(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]int{time.Nanosecond: 0, leastAge - 1: 0, time.Hour: 1} {
		l, err := newL1(1<<20, age)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.close)
		name := Name{"owner", "partition"}
		l.keep(testL1ID, &state{name: name, snap: &snapshot{}}, l.epoch(name))
		l.replace(testL1ID, &state{name: name, snap: &snapshot{}}, l.epoch(name))
		if got := l.cache.EstimatedSize(); got != want || len(l.byName) != want {
			t.Errorf("%v: %d copies under %d names, want %d", age, got, len(l.byName), want)
		}
	}
}

// A load that began before a message must not put its older state over what the
// message confirmed.
func TestL1MessageOvertakesLoads(t *testing.T) {
	t.Parallel()
	l, newState := newTestL1(t)
	older, newer := newState(), newState()
	slow, fast := l.epoch(older.name), l.epoch(older.name)
	l.keep(testL1ID, newer, fast)
	l.changed(Change{Name: newer.name, Version: newer.version})
	if l.get(&testL1ID) != newer {
		t.Error("the message has dropped the state that it tells of")
	}
	l.keep(testL1ID, older, slow)
	if l.get(&testL1ID) == older {
		t.Error("a load that was overtaken has put the older state")
	}
}

// The message of this cache's own save may come late: whoever looks at the epoch of
// that save must find it unchanged, or it would look up its own token again.
func TestL1OwnMessageComesLate(t *testing.T) {
	t.Parallel()
	l, newState := newTestL1(t)
	older, saved := newState(), newState()
	before := l.epoch(saved.name)
	epoch, ok := l.replace(testL1ID, saved, before)
	l.changed(Change{Name: saved.name, Version: saved.version})
	if now := l.epoch(saved.name); !ok || now != epoch || l.get(&testL1ID) != saved {
		t.Errorf("epoch %d is now %d; in L1: %v", epoch, now, l.get(&testL1ID) == saved)
	}
	if l.keep(testL1ID, older, before); l.get(&testL1ID) != saved {
		t.Error("a load that began before the save has put the older state")
	}
}

// Whoever has read a tombstone must not go on serving what was there before.
func TestL1KeepsNoTombstone(t *testing.T) {
	t.Parallel()
	l, newState := newTestL1(t)
	live, tomb := newState(), newState()
	tomb.snap, tomb.err = nil, ErrRemoved
	l.keep(testL1ID, live, l.epoch(live.name))
	overtaken := l.epoch(live.name)
	l.changed(Change{Name: live.name, Version: live.version})
	if l.keep(testL1ID, tomb, overtaken); l.get(&testL1ID) != live {
		t.Error("a load that was overtaken has dropped the newer state")
	}
	if l.keep(testL1ID, tomb, l.epoch(live.name)); l.get(&testL1ID) != nil {
		t.Error("served after the tombstone was read")
	}
}

// After changes may have been missed no copy is served where the provider can be
// asked, nor one that a load brings which began before.
func TestL1AfterMissedChanges(t *testing.T) {
	t.Parallel()
	l, newState := newTestL1(t)
	st := newState()
	before := l.epoch(st.name)
	l.keep(testL1ID, st, before)
	l.changed(Change{Missed: true})
	if l.get(&testL1ID) != nil || l.aged(&testL1ID) != st {
		t.Error("the copy is served, or is not kept for an outage")
	}
	if l.keep(testL1ID, newState(), before); l.get(&testL1ID) != nil {
		t.Error("a load that was overtaken has put its state")
	}
	st = newState()
	l.keep(testL1ID, st, l.epoch(st.name))
	if l.get(&testL1ID) != st {
		t.Error("what was loaded afterwards is not served")
	}
}

// Whoever has saved, and was overtaken, cannot tell which state is the newer one.
func TestL1ReplaceThatWasOvertaken(t *testing.T) {
	t.Parallel()
	l, newState := newTestL1(t)
	older, newer := newState(), newState()
	before := l.epoch(older.name)
	l.overtake(older.name)
	l.keep(testL1ID, newer, l.epoch(newer.name))
	if _, ok := l.replace(testL1ID, older, before); ok || l.get(&testL1ID) != nil {
		t.Error("one of the two is served")
	}
}

// What L1 knows beside the copies goes with them, and their weight is bounded.
func TestL1IsBounded(t *testing.T) {
	t.Parallel()
	l, err := newL1(64*l1Overhead, testMaxAge)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	for i := range 1000 {
		name := string(rune('a' + i))
		st := &state{name: Name{"owner", name}, version: NewVersion(), snap: &snapshot{}}
		l.keep(keyID{kind: kindAccount, account: name}, st, l.epoch(st.name))
	}
	l.cache.CleanUp()
	if n := l.cache.EstimatedSize(); n > 80 {
		t.Errorf("%d partitions are in L1, and there is room for about 64", n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.byName); n > 80 {
		t.Errorf("%d names are remembered", n)
	}
}

// The versions that are being saved are not remembered for longer than that.
func TestL1ForgetsOwnVersions(t *testing.T) {
	t.Parallel()
	l, newState := newTestL1(t)
	st := newState()
	over := l.own(st.version)
	l.keep(testL1ID, newState(), l.epoch(st.name))
	if l.changed(Change{Name: st.name, Version: st.version}); l.get(&testL1ID) == nil {
		t.Error("the message of a save that is under way has dropped the copy")
	}
	over()
	if l.changed(Change{Name: st.name, Version: st.version}); l.get(&testL1ID) != nil {
		t.Error("a later message of the version was ignored")
	}
}
