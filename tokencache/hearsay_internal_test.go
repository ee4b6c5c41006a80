package tokencache

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestHearsay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h hearsay
		v, known := NewVersion(), func(v Version) bool { _, ok := h.replaced(v); return ok }
		h.add(&Change{Missed: true})
		if known(v) || known(Version{}) {
			t.Error("something is known although nothing was heard")
		}
		h.add(&Change{Replaced: v, Version: NewVersion()})
		heardAt := time.Now()
		time.Sleep(journalLife / 2)
		if at, ok := h.replaced(v); !ok || !at.Equal(heardAt) {
			t.Errorf("replaced at %v, %t", at, ok)
		}
		time.Sleep(hearsayPatience - 1)
		if !known(v) {
			t.Error("who restores it is not waited for")
		}
		time.Sleep(time.Nanosecond)
		if known(v) {
			t.Error("who restores it is waited for longer than patience")
		}
		h.add(&Change{Replaced: v, Version: NewVersion()}) // it has come, and was replaced again
		time.Sleep(journalLife - 1)
		h.add(&Change{Replaced: NewVersion(), Version: NewVersion()})
		if !known(v) {
			t.Error("it is forgotten before its time")
		}
		time.Sleep(time.Nanosecond)
		if known(v) {
			t.Error("it is remembered for longer than its time")
		}
	})
}

func TestHearsayIsBounded(t *testing.T) {
	t.Parallel()
	var h hearsay
	last := Version{}
	for range 5 * hearsayMost {
		last = NewVersion()
		h.add(&Change{Replaced: last, Version: NewVersion()})
	}
	if n := len(h.young) + len(h.old); n > 2*hearsayMost || n != int(h.count.Load()) {
		t.Errorf("%d versions are remembered, and %d counted", n, h.count.Load())
	}
	if _, ok := h.replaced(last); !ok {
		t.Error("the last is not remembered")
	}
}

// What others saved in between does not hide what this process has saved.
func TestJournalAndHearsay(t *testing.T) {
	t.Parallel()
	v := newVersions()
	for name, c := range map[string]struct {
		heard []step
		own   step
		want  [6]bool // which versions are older than the own save
	}{
		"nothing heard":     {nil, step{2, 3}, [6]bool{2: true}},
		"before":            {[]step{{0, 1}, {1, 2}, {2, 3}}, step{2, 3}, [6]bool{true, true, true}},
		"out of order":      {[]step{{2, 3}, {1, 2}, {0, 1}}, step{2, 3}, [6]bool{true, true, true}},
		"afterwards":        {[]step{{0, 1}, {1, 2}, {2, 3}, {3, 4}}, step{1, 2}, [6]bool{true, true}},
		"own not heard":     {[]step{{0, 1}, {1, 2}}, step{2, 3}, [6]bool{true, true, true}},
		"with a gap":        {[]step{{0, 1}, {2, 3}}, step{2, 3}, [6]bool{2: true}},
		"in a circle":       {[]step{{0, 1}, {1, 0}, {4, 5}, {5, 4}}, step{2, 3}, [6]bool{2: true}},
		"by something else": {[]step{{0, 4}}, step{2, 3}, [6]bool{2: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, h := journal{most: journalBytes}, hearsay{}
			for _, s := range c.heard {
				h.add(&Change{Replaced: v[s.over], Version: v[s.by]})
			}
			j.add(Key{}, stored("p", v[c.own.over]), record(v[c.own.by]))
			for i, want := range c.want {
				if got := j.newer(stored("p", v[i]), &h) != nil; got != want {
					t.Errorf("version %d is older: %t, want %t", i, got, want)
				}
			}
		})
	}
}

// Who repeats a save because its reply was lost has replaced a record by itself.
func TestHearsayOfARepeatedSave(t *testing.T) {
	t.Parallel()
	var h hearsay
	v := NewVersion()
	h.add(&Change{Replaced: v, Version: v})
	if _, ok := h.replaced(v); ok {
		t.Error("what is stored was replaced by itself")
	}
}

// What was heard twice is waited for once, also if the first time is long ago.
func TestHearsayHeardTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h hearsay
		v, by := NewVersion(), NewVersion()
		h.add(&Change{Replaced: NewVersion(), Version: NewVersion()})
		time.Sleep(journalLife - time.Second)
		h.add(&Change{Replaced: v, Version: by})
		time.Sleep(2 * time.Second)
		h.add(&Change{Replaced: v, Version: by}) // restored
		if _, ok := h.replaced(v); !ok {
			t.Error("it is not known")
		}
		time.Sleep(hearsayPatience)
		for range 2 {
			if _, ok := h.replaced(v); ok {
				t.Error("it is waited for again")
			}
		}
	})
}
