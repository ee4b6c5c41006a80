package providertest

import (
	"reflect"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func basicTests() []testCase {
	return []testCase{
		{"Absent", testAbsent},
		{"ReadYourWrites", testReadYourWrites},
		{"Overwrite", testOverwrite},
		{"SliceOfCaller", testSliceOfCaller},
		{"SliceOfProvider", testSliceOfProvider},
		{"Tombstone", testTombstone},
		{"RemoveTwice", testRemoveTwice},
		{"RemoveAbsent", testRemoveAbsent},
		{"SaveAfterRemoval", testSaveAfterRemoval},
		{"Capabilities", testCapabilities},
	}
}

func testAbsent(e *env) {
	for _, p := range []tokencache.Provider{e.p, e.peer} {
		n := newName()
		e.wantAbsent(ruleNotFound, p, n)
		if got, _ := p.Load(e.ctx, n); got.Mark != (tokencache.Version{}) {
			e.broken(ruleLoadMark, "Load of an owner without a mark: got mark %v", got.Mark)
		}
	}
	// A neighbour does not make it present.
	n := e.create(record("neighbour"))
	e.wantAbsent(ruleNotFound, e.p, tokencache.Name{Owner: n.Owner, Partition: newHash()})
}

func testReadYourWrites(e *env) {
	n, r := newName(), record("written here")
	e.save(e.p, n, r, tokencache.Condition{})
	e.wantStored(ruleReadYourWrites, e.p, n, r)
	e.wantStored(ruleReadYourWrites, e.peer, n, r)

	// And the other way: a provider that keeps copies must notice.
	next := record("written there")
	e.save(e.peer, n, next, tokencache.IfVersion(r.Version))
	e.wantStored(ruleReadYourWrites, e.peer, n, next)
	e.wantStored(ruleReadYourWrites, e.p, n, next)
}

// testOverwrite changes length and expiry in both directions: what is left of
// the former value is a bug that equal lengths hide.
func testOverwrite(e *env) {
	n, r := newName(), record("first")
	e.save(e.p, n, r, tokencache.Condition{})
	for _, next := range []tokencache.Record{
		expiring(record("second, longer than the first"), later()),
		record("3rd"),
		expiring(record("fourth"), later().Add(time.Hour)),
	} {
		e.save(e.p, n, next, tokencache.IfVersion(r.Version))
		e.wantStored(ruleSave, e.p, n, next)
		e.wantStored(ruleReadYourWrites, e.peer, n, next)
		r = next
	}
}

func testSliceOfCaller(e *env) {
	content := []byte("kept by the provider")
	want := record(string(content))
	r := want
	r.Sealed = content
	n := e.create(r)
	for i := range content {
		content[i] = '!'
	}
	e.wantStored(ruleSlices, e.p, n, want)
	e.wantStored(ruleSlices, e.peer, n, want)
}

func testSliceOfProvider(e *env) {
	r := record("kept by the provider")
	n := e.create(r)
	for range 2 {
		got, err := e.p.Load(e.ctx, n)
		e.want(ruleReadYourWrites, err, nil, "Load")
		for i := range got.Sealed {
			got.Sealed[i] = '!'
		}
		// What lies behind the slice is not the caller's either.
		_ = append(got.Sealed, "overrun"...)
		e.wantStored(ruleSlices, e.p, n, r)
	}
	e.wantStored(ruleSlices, e.peer, n, r)
}

// testTombstone saves both kinds of nothing, as a record and over one.
func testTombstone(e *env) {
	for _, none := range [][]byte{nil, {}} {
		for _, existed := range []bool{false, true} {
			n := newName()
			if existed {
				e.save(e.p, n, record("about to go"), tokencache.Condition{})
			}
			dead := expiring(tombstone(), later())
			dead.Sealed = none
			e.want(ruleTombstone, e.p.Save(e.ctx, n, dead, tokencache.Always()), nil, "Save of a tombstone")
			for _, p := range []tokencache.Provider{e.p, e.peer} {
				e.wantStored(ruleLoadRemoved, p, n, dead)
				if got, _ := p.Load(e.ctx, n); !got.Removed() {
					e.broken(ruleTombstone, "Load after a removal: %s", describe(got.Sealed))
				}
			}
		}
	}
}

func testRemoveTwice(e *env) {
	n := e.create(record("about to go"))
	first, second := tombstone(), tombstone()
	e.save(e.p, n, first, tokencache.Always())
	e.save(e.p, n, second, tokencache.Always())
	e.wantStored(ruleLikeAnyRecord, e.p, n, second)

	third := tombstone()
	err := e.p.Save(e.ctx, n, third, tokencache.IfVersion(first.Version))
	e.want(ruleConflict, err, tokencache.ErrConflict, "Save over a replaced tombstone's version")
	e.save(e.p, n, third, tokencache.IfVersion(second.Version))
	e.wantStored(ruleLikeAnyRecord, e.peer, n, third)
}

// testRemoveAbsent: nothing can be removed too, and leaves a tombstone, so that
// a save that was prepared before does not bring the partition to life.
func testRemoveAbsent(e *env) {
	for _, cond := range []tokencache.Condition{tokencache.Always(), {}} {
		n, dead := newName(), tombstone()
		e.save(e.p, n, dead, cond)
		e.wantStored(ruleLoadRemoved, e.p, n, dead)
		e.want(ruleIfAbsent, e.p.Save(e.ctx, n, record("late"), tokencache.Condition{}),
			tokencache.ErrConflict, "Save of a new record over a tombstone")
	}
	n := newName()
	err := e.p.Save(e.ctx, n, tombstone(), tokencache.IfVersion(tokencache.NewVersion()))
	e.want(ruleConflict, err, tokencache.ErrConflict, "removal, by version, of what is absent")
	e.wantAbsent(ruleNoInsert, e.p, n)
}

// testSaveAfterRemoval: a sign-in replaces the tombstone it has seen.
func testSaveAfterRemoval(e *env) {
	n, dead, again := newName(), tombstone(), record("signed in again")
	e.save(e.p, n, dead, tokencache.Always())
	e.save(e.peer, n, again, tokencache.IfVersion(dead.Version))
	e.wantStored(ruleReadYourWrites, e.p, n, again)
}

func testCapabilities(e *env) {
	before := offers(e, e.p)
	for field, offered := range offers(e, e.peer) {
		if offered != before[field] {
			e.broken(ruleCapabilities, "%s differs between two providers over one store", field)
		}
	}
	n := e.create(record("used"))
	_, _ = e.p.Load(e.ctx, n)
	for field, offered := range offers(e, e.p) {
		if offered != before[field] {
			e.broken(ruleCapabilities, "%s: offered %v, and later %v", field, before[field], offered)
		}
	}
}

// offers returns which fields of Capabilities are set. A nil pointer in an
// interface field passes a caller's check for nil and then panics.
func offers(e *env, p tokencache.Provider) map[string]bool {
	e.Helper()
	offered := make(map[string]bool)
	for field, value := range reflect.ValueOf(p.Capabilities()).Fields() {
		offered[field.Name] = !value.IsZero()
		if value.Kind() != reflect.Interface || value.IsNil() {
			continue
		}
		switch v := value.Elem(); v.Kind() {
		case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Func, reflect.Chan:
			if v.IsNil() {
				e.broken(ruleNilField, "%s holds a nil %v", field.Name, v.Type())
			}
		default:
		}
	}
	return offered
}
