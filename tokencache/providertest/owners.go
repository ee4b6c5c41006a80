package providertest

import (
	"errors"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func ownerTests() []testCase {
	return []testCase{
		{"MarkSeen", testMarkSeen},
		{"MarkRefuses", testMarkRefuses},
		{"MarkAccepts", testMarkAccepts},
		{"MarkReplaced", testMarkReplaced},
		{"MarkExpires", testMarkExpires},
		{"MarkOfAnother", testMarkOfAnother},
		{"List", testList},
		{"ListRemoved", testListRemoved},
		{"ListExpired", testListExpired},
		{"RemoveOwner", testRemoveOwner},
		{"RemoveOwnerRace", testRemoveOwnerRace},
		{"RemoveOwnerStorm", testRemoveOwnerStorm},
		{"ListRace", testListRace},
	}
}

func (e *env) setMark(owner string) tokencache.Version {
	e.Helper()
	mark := tokencache.NewVersion()
	e.want(ruleMarkUntil, e.caps.Owners.SetMark(e.ctx, owner, mark, later()), nil, "SetMark")
	return mark
}

// wantMark reports if Load shows another mark, whatever else it answers.
func (e *env) wantMark(rule string, p tokencache.Provider, n tokencache.Name, want tokencache.Version) {
	e.Helper()
	got, err := p.Load(e.ctx, n)
	if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
		e.broken(rule, "Load: error %v", err)
	}
	if got.Mark != want {
		e.broken(rule, "Load shows mark %v, want %v (error %v)", got.Mark, want, err)
	}
}

func testMarkSeen(e *env) {
	owner := newHash()
	live := tokencache.Name{Owner: owner, Partition: newHash()}
	dead := tokencache.Name{Owner: owner, Partition: newHash()}
	none := tokencache.Name{Owner: owner, Partition: newHash()}
	e.save(e.p, live, record("there"), tokencache.Condition{})
	e.save(e.p, dead, tombstone(), tokencache.Condition{})
	for _, n := range []tokencache.Name{live, dead, none} {
		e.wantMark(ruleLoadMark, e.p, n, tokencache.Version{})
	}
	mark := e.setMark(owner)
	for _, n := range []tokencache.Name{live, dead, none} {
		e.wantMark(ruleLoadMark, e.p, n, mark)
		e.wantMark(ruleLoadMark, e.peer, n, mark)
	}
	e.wantAbsent(ruleNotFound, e.p, none)
}

// testMarkRefuses saves with an old mark under every condition, whether or not
// it holds: ErrRemoved comes before ErrConflict.
func testMarkRefuses(e *env) {
	owner := newHash()
	live := tokencache.Name{Owner: owner, Partition: newHash()}
	dead := tokencache.Name{Owner: owner, Partition: newHash()}
	none := tokencache.Name{Owner: owner, Partition: newHash()}
	stored, removed := record("there"), tombstone()
	e.save(e.p, live, stored, tokencache.Condition{})
	e.save(e.p, dead, removed, tokencache.Condition{})
	e.setMark(owner)
	for _, old := range []tokencache.Version{{}, tokencache.NewVersion()} {
		for _, cond := range []tokencache.Condition{
			{}, tokencache.Always(), tokencache.IfVersion(stored.Version),
			tokencache.IfVersion(removed.Version), tokencache.IfVersion(tokencache.NewVersion()),
		} {
			for _, n := range []tokencache.Name{live, dead, none} {
				err := e.peer.Save(e.ctx, n, marked(record("late"), old), cond)
				e.want(ruleMarkRefuses, err, tokencache.ErrRemoved, "Save with an old mark")
				if errors.Is(err, tokencache.ErrConflict) {
					e.broken(rulePrecedence, "Save with an old mark: error %v", err)
				}
			}
		}
	}
	e.wantStored(ruleRemoved, e.p, live, stored)
	e.wantStored(ruleRemoved, e.p, dead, removed)
	e.wantAbsent(ruleRemoved, e.p, none)
}

func testMarkAccepts(e *env) {
	n, r := newName(), record("before")
	// A mark that is no more, or never was, refuses nothing.
	e.want(ruleRemoved, e.p.Save(e.ctx, n, marked(r, tokencache.NewVersion()), tokencache.Condition{}), nil,
		"Save with a mark, of an owner that has none")
	mark := e.setMark(n.Owner)
	next := record("after")
	e.want(ruleRemoved, e.p.Save(e.ctx, n, marked(next, mark), tokencache.IfVersion(r.Version)), nil,
		"Save with the current mark")
	e.wantStored(ruleRemoved, e.peer, n, next)
	err := e.p.Save(e.ctx, n, marked(record("again"), mark), tokencache.Condition{})
	e.want(ruleConflict, err, tokencache.ErrConflict, "Save of a new record with the current mark over another")

	for _, seen := range []tokencache.Version{{}, tokencache.NewVersion()} {
		dead := tombstone()
		e.want(ruleTombstoneMark, e.p.Save(e.ctx, n, marked(dead, seen), tokencache.Always()), nil,
			"removal with an old mark")
		e.wantStored(ruleTombstoneMark, e.p, n, dead)
	}
}

func testMarkReplaced(e *env) {
	n := newName()
	first := e.setMark(n.Owner)
	second := e.setMark(n.Owner)
	e.wantMark(ruleMarkReplace, e.peer, n, second)
	err := e.p.Save(e.ctx, n, marked(record("late"), first), tokencache.Condition{})
	e.want(ruleMarkReplace, err, tokencache.ErrRemoved, "Save with the replaced mark")
	e.want(ruleMarkReplace, e.p.Save(e.ctx, n, marked(record("new"), second), tokencache.Condition{}), nil,
		"Save with the current mark")
}

func testMarkExpires(e *env) {
	n, m := newName(), newName()
	old := tokencache.NewVersion()
	e.want(ruleMarkUntil, e.caps.Owners.SetMark(e.ctx, n.Owner, old, e.soon()), nil, "SetMark")
	e.want(ruleMarkUntil, e.caps.Owners.SetMark(e.ctx, m.Owner, old, e.soon()), nil, "SetMark")
	kept := e.setMark(m.Owner) // replaces, and outlives, the short one
	e.outlast()
	e.wantMark(ruleMarkUntil, e.p, n, tokencache.Version{})
	e.want(ruleMarkUntil, e.p.Save(e.ctx, n, record("new"), tokencache.Condition{}), nil, "Save after the mark expired")
	n.Partition = newHash()
	e.want(ruleMarkUntil, e.p.Save(e.ctx, n, marked(record("new"), old), tokencache.Condition{}), nil,
		"Save with the mark that expired")

	e.wantMark(ruleMarkReplace, e.p, m, kept)
	err := e.p.Save(e.ctx, m, marked(record("late"), old), tokencache.Condition{})
	e.want(ruleMarkReplace, err, tokencache.ErrRemoved, "Save with a mark that was replaced by a longer one")
}

// testMarkOfAnother has owners that differ in a character, or in its case.
func testMarkOfAnother(e *env) {
	base, ends := newHash()[:39], []string{"AAA", "AAB", "aaa", "AA-", "AA_", "___", "---"}
	var names []tokencache.Name
	var stored []tokencache.Record
	for _, end := range ends {
		n, r := tokencache.Name{Owner: base + end + "A", Partition: newHash()}, record("of "+end)
		e.save(e.p, n, r, tokencache.Condition{})
		names, stored = append(names, n), append(stored, r)
	}
	mark := e.setMark(names[0].Owner)
	e.setMark(newHash())
	e.wantMark(ruleLoadMark, e.p, names[0], mark)
	for i, n := range names {
		e.wantListed(ruleList, n.Owner, n)
		if i == 0 {
			continue
		}
		e.wantMark(ruleLoadMark, e.p, n, tokencache.Version{})
		next := record("after")
		e.save(e.peer, n, next, tokencache.IfVersion(stored[i].Version))
		e.wantStored(ruleSave, e.p, n, next)
	}
}

// testRemoveOwner is the whole of signing out everywhere.
func testRemoveOwner(e *env) {
	owner := newHash()
	for range 5 {
		e.save(e.p, tokencache.Name{Owner: owner, Partition: newHash()}, record("there"), tokencache.Condition{})
	}
	other := e.create(record("of another"))
	mark := e.setMark(owner)
	names := e.list(e.p, owner)
	for _, n := range names {
		e.save(e.p, n, tombstone(), tokencache.Always())
	}
	e.wantListed(ruleList, owner)
	e.wantListed(ruleList, other.Owner, other)
	for _, n := range names {
		if got, err := e.peer.Load(e.ctx, n); err != nil || !got.Removed() {
			e.broken(ruleTombstone, "Load after its owner was removed: %s, error %v", describe(got.Sealed), err)
		}
	}
	// The user may come back at once.
	back := tokencache.Name{Owner: owner, Partition: newHash()}
	e.save(e.p, back, marked(record("signed in again"), mark), tokencache.Condition{})
	e.wantListed(ruleList, owner, back)
}

// testRemoveOwnerRace creates partitions, by writers that saw no mark, while
// their owner is removed. A save that succeeded came before the mark, so the
// list, asked after it, has its name.
func testRemoveOwnerRace(e *env) {
	const savers = 8
	for range 4 {
		owner := newHash()
		var created [savers][]tokencache.Name
		going, set := make(chan struct{}, savers), make(chan struct{})
		e.together(savers+1, func(i int, p tokencache.Provider) {
			if i < savers {
				created[i] = e.rush(p, owner, going, set)
				return
			}
			for range savers / 2 {
				<-going
			}
			e.removeOwner(owner, set)
		})
		for _, names := range created {
			for _, n := range names {
				got, err := e.p.Load(e.ctx, n)
				if err != nil || !got.Removed() {
					e.broken(ruleMarkFirst, "alive after its owner was removed: %s, error %v", describe(got.Sealed), err)
				}
			}
		}
		e.wantListed(ruleMarkFirst, owner)
	}
}

// rush creates partitions of the owner until it is refused, and returns those
// that were stored. It sends to going once it has tried. set is closed once the
// mark is set: a save that starts after that must be refused.
func (e *env) rush(p tokencache.Provider, owner string, going chan<- struct{}, set <-chan struct{}) []tokencache.Name {
	// Enough to be at it when the mark comes, whatever the backend's speed.
	const most = 300
	var names []tokencache.Name
	for i := range most + 1 {
		if i == most {
			<-set
		}
		late := isClosed(set)
		n := tokencache.Name{Owner: owner, Partition: newHash()}
		err := p.Save(e.ctx, n, record("created"), tokencache.Condition{})
		if i == 0 {
			going <- struct{}{}
		}
		if errors.Is(err, tokencache.ErrRemoved) {
			return names
		}
		names = append(names, n)
		if err != nil || late {
			e.breach(ruleMarkRefuses, "Save after the owner's mark was set (%v): error %v", late, err)
			return names
		}
	}
	return names
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// removeOwner does what the contract asks of a Cache; it runs on a goroutine of
// its own.
func (e *env) removeOwner(owner string, set chan<- struct{}) {
	err := e.caps.Owners.SetMark(e.ctx, owner, tokencache.NewVersion(), later())
	close(set) // also on failure: others wait for it
	if err != nil {
		e.breach(ruleMarkUntil, "SetMark: error %v", err)
		return
	}
	names, err := e.caps.Owners.List(e.ctx, owner)
	if err != nil {
		e.breach(ruleList, "List: error %v", err)
	}
	for _, n := range names {
		if err := e.p.Save(e.ctx, n, tombstone(), tokencache.Always()); err != nil {
			e.breach(ruleTombstoneMark, "removal: error %v", err)
		}
	}
}
