package providertest

import (
	"errors"
	"fmt"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func conditionTests() []testCase {
	return []testCase{
		{"Table", testConditionTable},
		{"UpdateNeverInserts", testUpdateNeverInserts},
		{"AmbiguousCommit", testAmbiguousCommit},
		{"LostUpdate", testLostUpdate},
	}
}

// state is what is stored before a conditional save.
type state struct {
	name string
	// stored is nil if nothing was ever stored.
	stored func(e *env) tokencache.Record
	// there tells whether conditions see something.
	there bool
}

func states() []state {
	return []state{
		{name: "absent"},
		{name: "present", there: true, stored: func(*env) tokencache.Record { return record("stored") }},
		{name: "removed", there: true, stored: func(*env) tokencache.Record { return tombstone() }},
		{name: "expired", stored: func(e *env) tokencache.Record { return expiring(record("stored"), e.soon()) }},
		{name: "expired tombstone", stored: func(e *env) tokencache.Record { return expiring(tombstone(), e.soon()) }},
	}
}

// condition is a condition and when it holds.
type condition struct {
	name  string
	make  func(stored tokencache.Version) tokencache.Condition
	holds func(there bool) bool
	rule  string
}

func conditions() []condition {
	type version = tokencache.Version
	never := func(bool) bool { return false }
	return []condition{
		{
			"zero", func(version) tokencache.Condition { return tokencache.Condition{} },
			func(there bool) bool { return !there }, ruleIfAbsent,
		},
		{"IfVersion(stored)", tokencache.IfVersion, func(there bool) bool { return there }, ruleConflict},
		{
			"IfVersion(another)", func(version) tokencache.Condition { return tokencache.IfVersion(tokencache.NewVersion()) },
			never, ruleConflict,
		},
		{
			// Nothing has no version, not the zero one.
			"IfVersion(zero)", func(version) tokencache.Condition { return tokencache.IfVersion(version{}) },
			never, ruleConflict,
		},
		{
			"Always", func(version) tokencache.Condition { return tokencache.Always() },
			func(bool) bool { return true }, ruleAlways,
		},
	}
}

// attempt is one cell of the table.
type attempt struct {
	what   string
	n      tokencache.Name
	state  state
	cond   condition
	stored tokencache.Record
	next   tokencache.Record
}

// testConditionTable tries every condition in every state, with a record and
// with a tombstone. The states are prepared first, so that the expired ones
// expire together.
func testConditionTable(e *env) {
	var attempts []attempt
	for _, s := range states() {
		for _, c := range conditions() {
			for kind, next := range map[string]func() tokencache.Record{
				"a record":    func() tokencache.Record { return record("next") },
				"a tombstone": tombstone,
			} {
				a := attempt{n: newName(), state: s, cond: c, next: next()}
				a.what = fmt.Sprintf("Save of %s, condition %s, over what is %s", kind, c.name, s.name)
				if s.stored != nil {
					a.stored = s.stored(e)
					e.save(e.p, a.n, a.stored, tokencache.Condition{})
				} else {
					a.stored.Version = tokencache.NewVersion()
				}
				attempts = append(attempts, a)
			}
		}
	}
	e.outlast()
	for _, a := range attempts {
		e.try(a)
	}
}

func (e *env) try(a attempt) {
	e.Helper()
	err := e.p.Save(e.ctx, a.n, a.next, a.cond.make(a.stored.Version))
	if a.cond.holds(a.state.there) {
		e.want(a.cond.rule, err, nil, a.what)
		e.wantStored(a.cond.rule, e.peer, a.n, a.next)
		return
	}
	e.want(a.cond.rule, err, tokencache.ErrConflict, a.what)
	if errors.Is(err, tokencache.ErrNotFound) {
		e.broken(a.cond.rule, "%s: the error is ErrNotFound as well", a.what)
	}
	if a.state.there {
		e.wantStored(ruleSave, e.peer, a.n, a.stored)
		return
	}
	e.wantAbsent(ruleNoInsert, e.peer, a.n)
}

// testUpdateNeverInserts is the mistake that signs users in again after they
// signed out, so it has a test and a name of its own.
func testUpdateNeverInserts(e *env) {
	n := newName()
	err := e.p.Save(e.ctx, n, record("resurrected"), tokencache.IfVersion(tokencache.NewVersion()))
	e.want(ruleConflict, err, tokencache.ErrConflict, "Save, by version, where nothing is stored")
	e.wantAbsent(ruleNoInsert, e.p, n)
	e.wantAbsent(ruleNoInsert, e.peer, n)
	// Nor does it leave anything behind that a creation would meet.
	e.save(e.p, n, record("created"), tokencache.Condition{})
}

// testAmbiguousCommit repeats a save whose reply was lost. The second one is a
// conflict, and the version that is stored tells the writer that it was itself.
func testAmbiguousCommit(e *env) {
	old, mine := record("before"), record("mine")
	n := e.create(old)
	e.save(e.p, n, mine, tokencache.IfVersion(old.Version))
	err := e.p.Save(e.ctx, n, mine, tokencache.IfVersion(old.Version))
	e.want(ruleConflict, err, tokencache.ErrConflict, "the same Save once more")
	e.wantStored(ruleAmbiguous, e.p, n, mine)

	created := record("created")
	n = e.create(created)
	err = e.p.Save(e.ctx, n, created, tokencache.Condition{})
	e.want(ruleIfAbsent, err, tokencache.ErrConflict, "the same creation once more")
	e.wantStored(ruleAmbiguous, e.p, n, created)
}

// testLostUpdate: two machines load the same version and both write.
func testLostUpdate(e *env) {
	old, first, second := record("before"), record("first"), record("second")
	n := e.create(old)
	e.save(e.p, n, first, tokencache.IfVersion(old.Version))
	err := e.peer.Save(e.ctx, n, second, tokencache.IfVersion(old.Version))
	e.want(ruleConflict, err, tokencache.ErrConflict, "Save by the second of two machines")
	e.wantStored(ruleSave, e.peer, n, first)
}
