package tokencache

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// stored is the state of a partition at a version.
func stored(partition string, v Version) *state {
	return &state{name: Name{"owner", partition}, found: true, version: v}
}

func record(v Version) Record { return Record{Version: v, Sealed: make([]byte, 1000)} }

// newVersions returns versions that the test can tell apart.
func newVersions() (v [6]Version) {
	for i := range v {
		v[i] = Version{byte(i + 1)}
	}
	return v
}

// A save is a version that was replaced, and the one that came in its place.
type step struct{ over, by int }

func TestJournal(t *testing.T) {
	t.Parallel()
	const none = -1
	v := newVersions()
	for name, c := range map[string]struct {
		saves []step
		want  [6]int // which version replaces each
	}{
		"nothing":       {nil, [6]int{none, none, none, none, none, none}},
		"one save":      {[]step{{0, 1}}, [6]int{1, none, none, none, none, none}},
		"a chain":       {[]step{{0, 1}, {1, 2}, {2, 3}}, [6]int{3, 3, 3, none, none, none}},
		"out of order":  {[]step{{1, 2}, {0, 1}}, [6]int{2, 2, none, none, none, none}},
		"at the front":  {[]step{{2, 3}, {1, 2}, {0, 1}}, [6]int{3, 3, 3, none, none, none}},
		"with a gap":    {[]step{{0, 1}, {2, 3}}, [6]int{3, none, 3, none, none, none}},
		"a late gap":    {[]step{{2, 3}, {0, 1}}, [6]int{1, none, 1, none, none, none}}, // what is stored is not touched
		"over nothing":  {[]step{{none, 1}}, [6]int{none, none, none, none, none, none}},
		"after nothing": {[]step{{0, 1}, {none, 2}}, [6]int{2, none, none, none, none, none}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := journal{most: journalBytes}
			for _, s := range c.saves {
				over := &state{name: Name{"owner", "p"}}
				if s.over != none {
					over = stored("p", v[s.over])
				}
				j.add(Key{}, over, record(v[s.by]))
			}
			for i, want := range c.want {
				got := none
				if s := j.newer(stored("p", v[i]), &hearsay{}); s != nil {
					got = int(s.record.Version[0]) - 1
				}
				if got != want {
					t.Errorf("version %d is replaced by %d, want %d", i, got, want)
				}
			}
			if j.newer(stored("another", v[0]), &hearsay{}) != nil {
				t.Error("another partition's version was replaced")
			}
			if j.newer(&state{name: Name{"owner", "p"}}, &hearsay{}) != nil {
				t.Error("nothing was replaced by something")
			}
		})
	}
}

func TestJournalIsBounded(t *testing.T) {
	t.Parallel()
	v := newVersions()
	j := journal{most: 10 * (1000 + journalOverhead + 2*len(Version{}))}
	for i := range 100 {
		j.add(Key{}, stored(fmt.Sprint(i), v[0]), record(v[1]))
		j.add(Key{}, stored(fmt.Sprint(i), v[1]), record(v[2])) // in its place
	}
	for i := range 100 {
		if got, want := j.newer(stored(fmt.Sprint(i), v[0]), &hearsay{}) != nil, i >= 90; got != want {
			t.Errorf("partition %d is remembered: %t, want %t", i, got, want)
		}
	}
	if j.size != j.most || len(j.entries) != 10 || j.order.Len() != 10 {
		t.Errorf("%d bytes, %d entries and %d in order", j.size, len(j.entries), j.order.Len())
	}
	for range 100 {
		over := NewVersion()
		j.add(Key{}, stored("99", over), record(NewVersion()))
		if s := j.newer(stored("99", over), &hearsay{}); len(s.replaced) > journalVersions {
			t.Fatalf("%d replaced versions", len(s.replaced))
		}
	}
	large := Record{Version: v[1], Sealed: make([]byte, j.most)}
	j.add(Key{}, stored("large", v[0]), large)
	if j.newer(stored("large", v[0]), &hearsay{}) != nil || j.size != 0 {
		t.Errorf("what is larger than the journal is in it, with %d bytes", j.size)
	}
}

// One user is refreshed many times while a replica lags, and the watcher tells of
// few of these: what comes back is known all the same.
func TestJournalKnowsBusyUser(t *testing.T) {
	t.Parallel()
	j := journal{most: journalBytes}
	first := NewVersion()
	for i, last := 0, first; i < 50; i++ {
		next := NewVersion()
		j.add(Key{}, stored("p", last), record(next))
		last = next
	}
	if j.newer(stored("p", first), &hearsay{}) == nil {
		t.Error("the version before fifty others is not known to be old")
	}
}

func TestJournalForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVersions()
		j := journal{most: journalBytes}
		j.add(Key{}, stored("p", v[0]), record(v[1]))
		time.Sleep(journalLife - time.Second)
		j.add(Key{}, stored("p", v[1]), record(v[2]))
		time.Sleep(journalLife - time.Second)
		if j.newer(stored("p", v[0]), &hearsay{}) == nil {
			t.Error("the first of a chain is forgotten while the last is remembered")
		}
		time.Sleep(time.Second)
		if j.newer(stored("p", v[0]), &hearsay{}) != nil || j.size != 0 || len(j.entries) != 0 || j.count.Load() != 0 {
			t.Error("it is still remembered")
		}
		if j.missed(begun(t, false)) {
			t.Error("there is work to do")
		}
	})
}

// There is one goroutine at a time, which does what comes meanwhile too, the newest
// first.
func TestJournalRounds(t *testing.T) {
	t.Parallel()
	v := newVersions()
	j := journal{most: journalBytes}
	if j.missed(begun(t, false)) {
		t.Error("there is work to do, and nothing was saved")
	}
	for i := range 3 {
		j.add(Key{}, stored(fmt.Sprint(i), v[0]), record(v[1]))
	}
	for i := range 2 {
		if j.missed(begun(t, true)) != (i == 0) {
			t.Error("want one goroutine")
		}
	}
	list, round := j.unseen()
	if len(list) != 3 || list[0].name.Partition != "2" || list[2].name.Partition != "0" {
		t.Fatalf("%d to look for, want three from the newest on", len(list))
	}
	j.seen(list[0], round)
	if rest, _ := j.unseen(); len(rest) != 2 {
		t.Errorf("%d to look for, want two", len(rest))
	}
	if j.missed(begun(t, true)) {
		t.Error("want one goroutine")
	}
	if list, round = j.unseen(); len(list) != 3 {
		t.Errorf("%d to look for in a new round, want three", len(list))
	}
	for _, s := range list {
		j.seen(s, round)
	}
	if rest, _ := j.unseen(); len(rest) != 0 {
		t.Errorf("%d to look for, want none", len(rest))
	}
	if !j.missed(begun(t, true)) {
		t.Error("nobody looks in the next round")
	}
}

// begun is called when there is anything to look for.
func begun(t *testing.T, may bool) func(uint64) {
	return func(uint64) {
		if !may {
			t.Error("a round has begun in which there is nothing to look for")
		}
	}
}
