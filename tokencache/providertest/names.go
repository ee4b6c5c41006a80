package providertest

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func listerTests() []testCase {
	return []testCase{
		{"Empty", testNamesEmpty},
		{"All", testNamesAll},
		{"Resumed", testNamesResumed},
		{"Changes", testNamesChanges},
		{"Cursor", testNamesCursor},
		{"Context", testNamesContext},
	}
}

const (
	// manyNames is more than a few pages.
	manyNames = 900
	// mostNames bounds a page.
	mostNames = 999
	// mostPages bounds a listing: some pages may be empty.
	mostPages = 10_000
)

// page asks for one.
func (e *env) page(p tokencache.Provider, cursor string) ([]tokencache.Name, string) {
	e.Helper()
	names, next, err := p.Capabilities().Lister.Names(e.ctx, cursor)
	e.want(ruleNames, err, nil, "Names")
	if len(names) > mostNames {
		e.broken(rulePage, "a page has %d names", len(names))
	}
	return names, next
}

// walk goes through all pages from the cursor on. between is called after each.
func (e *env) walk(p tokencache.Provider, cursor string, into map[tokencache.Name]bool, between func()) (pages int) {
	e.Helper()
	for pages = 1; ; pages++ {
		names, next := e.page(p, cursor)
		for _, n := range names {
			into[n] = true
		}
		if next == "" {
			return pages
		}
		if cursor = next; pages == mostPages {
			e.broken(ruleNames, "after %d pages there is no end", pages)
		}
		if between != nil {
			between()
		}
	}
}

// many saves records, and some tombstones, a few at a time.
func (e *env) many(count int) []tokencache.Name {
	e.Helper()
	names := make([]tokencache.Name, count)
	owner := newHash()
	const savers = 16
	e.together(savers, func(i int, p tokencache.Provider) {
		for k := i; k < count; k += savers {
			names[k] = newName()
			r := expiring(record("there"), later())
			switch {
			case k%7 == 0:
				names[k].Owner = owner // one that has many
			case k%5 == 0:
				r.Sealed = nil
			}
			if err := p.Save(e.ctx, names[k], r, tokencache.Condition{}); err != nil {
				e.breach(ruleSave, "Save: error %v", err)
			}
		}
	})
	return names
}

// wantNamed reports if one of the names was left out.
func (e *env) wantNamed(got map[tokencache.Name]bool, want []tokencache.Name) {
	e.Helper()
	missing := 0
	for _, n := range want {
		if !got[n] {
			missing++
		}
	}
	if missing > 0 {
		e.broken(ruleNamed, "%d of %d are missing", missing, len(want))
	}
}

func testNamesEmpty(e *env) {
	for _, p := range []tokencache.Provider{e.p, e.peer} {
		got := make(map[tokencache.Name]bool)
		e.walk(p, "", got, nil)
		if len(got) > 0 {
			e.broken(ruleNames, "an empty store has %d names", len(got))
		}
	}
}

// testNamesAll has as many names as fill pages, and no name that is not there: a mark, a
// lease, what a save that was refused would have left.
func testNamesAll(e *env) {
	stored := e.many(manyNames)
	there := make(map[tokencache.Name]bool)
	for _, n := range stored {
		there[n] = true
	}
	if c := e.caps.Owners; c != nil {
		e.setMark(newHash())
		e.setMark(stored[0].Owner)
	}
	if c := e.caps.Leaser; c != nil {
		lease, err := c.Acquire(e.ctx, newName(), time.Hour)
		e.want(ruleAcquire, err, nil, "Acquire")
		defer func() { _ = lease.Release(e.ctx) }()
	}
	_ = e.p.Save(e.ctx, newName(), record("x"), tokencache.IfVersion(tokencache.NewVersion()))
	for _, p := range []tokencache.Provider{e.p, e.peer} {
		got := make(map[tokencache.Name]bool)
		if pages := e.walk(p, "", got, nil); pages < 2 {
			e.broken(rulePage, "%d names are one page", manyNames)
		}
		e.wantNamed(got, stored)
		for n := range got {
			if !there[n] {
				e.broken(ruleNames, "a name is listed that nothing is stored under")
			}
		}
	}
}

// testNamesResumed takes each cursor to the other machine, and uses some twice.
func testNamesResumed(e *env) {
	stored := e.many(manyNames)
	got := make(map[tokencache.Name]bool)
	var middle string
	var before map[tokencache.Name]bool
	for cursor, pages := "", 0; ; pages++ {
		names, next := e.page([]tokencache.Provider{e.peer, e.p}[pages%2], cursor)
		for _, n := range names {
			got[n] = true
		}
		if next == "" {
			break
		}
		if cursor = next; pages == 1 {
			middle, before = next, maps.Clone(got)
		}
		if pages == mostPages {
			e.broken(ruleNames, "after %d pages there is no end", pages)
		}
	}
	e.wantNamed(got, stored)
	for _, p := range []tokencache.Provider{e.p, e.peer, e.p} {
		rest := maps.Clone(before)
		e.walk(p, middle, rest, nil)
		e.wantNamed(rest, stored)
	}
}

// testNamesChanges has others come and go after each of the first pages: a store that
// begins anew, as it is restarted over and over, must get to the end.
func testNamesChanges(e *env) {
	kept := e.many(manyNames)
	passing := e.many(200)
	got := make(map[tokencache.Name]bool)
	turned := 0
	e.walk(e.p, "", got, func() {
		if turned++; turned > 12 {
			return
		}
		for range 20 {
			e.create(expiring(record("came"), later()))
			if len(passing) > 0 {
				e.save(e.peer, passing[0], expiring(tombstone(), time.Now().Add(-time.Second)), tokencache.Always())
				passing = passing[1:]
			}
		}
		// Written again, it stays where it is.
		e.save(e.p, kept[0], expiring(record("again"), later()), tokencache.Always())
	})
	e.wantNamed(got, kept)
}

func testNamesCursor(e *env) {
	e.many(10)
	for _, cursor := range []string{"0", "1", "garbage", " ", "\x00", ".", "..", "a.b.c", "é", fmt.Sprintf("%0100d", 7)} {
		names, _, err := e.caps.Lister.Names(e.ctx, cursor)
		if !errors.Is(err, tokencache.ErrCursor) {
			e.broken(ruleCursor, "cursor %q: %d names, error %v", cursor, len(names), err)
		}
	}
}

func testNamesContext(e *env) {
	e.many(10)
	for name, ctx := range e.ended() {
		_, _, err := e.caps.Lister.Names(ctx, "")
		e.wantEnded(err, "Names, context "+name)
	}
}
