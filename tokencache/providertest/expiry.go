package providertest

import (
	"errors"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func expiryTests() []testCase {
	return []testCase{
		{"Vanishes", testVanishes},
		{"NotEarly", testNotEarly},
		{"Never", testNever},
		{"Replaced", testExpiryReplaced},
		{"TombstoneStays", testTombstoneStays},
		{"InThePast", testExpiryInThePast},
		{"NoResurrection", testNoResurrection},
	}
}

func testVanishes(e *env) {
	live := e.create(expiring(record("short"), e.soon()))
	dead := e.create(expiring(tombstone(), e.soon()))
	e.outlast()
	for _, p := range []tokencache.Provider{e.p, e.peer} {
		e.wantAbsent(ruleExpires, p, live)
		e.wantAbsent(ruleLikeAnyRecord, p, dead)
	}
	// Once gone, gone for good, and free to be created anew.
	again := record("again")
	e.save(e.p, live, again, tokencache.Condition{})
	e.outlast()
	e.wantStored(ruleExpires, e.p, live, again)
}

// testNotEarly finds a unit that was mistaken: milliseconds as seconds expire
// late, which Vanishes notices; seconds as milliseconds expire at once.
func testNotEarly(e *env) {
	start := time.Now()
	r := expiring(record("short"), e.soon())
	n := e.create(r)
	if _, err := e.p.Load(e.ctx, n); errors.Is(err, tokencache.ErrNotFound) && time.Since(start) < e.expiry {
		e.broken(ruleExpires, "a record that expires in %v was gone at once", e.expiry)
	}

	hour := expiring(record("an hour"), later())
	n = e.create(hour)
	e.outlast()
	e.wantStored(ruleExpires, e.p, n, hour)

	// Beyond what 64 bits of nanoseconds can tell.
	n = e.create(expiring(record("far"), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)))
	if _, err := e.peer.Load(e.ctx, n); err != nil {
		e.broken(ruleExpires, "Load of a record that expires in the year 9999: error %v", err)
	}
}

func testNever(e *env) {
	live, dead := record("for ever"), tombstone()
	n, removed := e.create(live), e.create(dead)
	e.outlast()
	e.wantStored(ruleNever, e.p, n, live)
	e.wantStored(ruleNever, e.p, removed, dead)
	if got, _ := e.p.Load(e.ctx, n); !got.Expires.IsZero() {
		e.broken(ruleNever, "Load shows expiry %v of a record without one", got.Expires)
	}
}

// testExpiryReplaced: a save replaces the expiry along with everything else,
// whichever is longer.
func testExpiryReplaced(e *env) {
	never := time.Time{}
	type change struct {
		name     string
		n        tokencache.Name
		next     tokencache.Record
		survives bool
	}
	var changes []change
	for _, c := range []struct {
		name     string
		from, to time.Time
	}{
		{"short to long", e.soon(), later()},
		{"short to never", e.soon(), never},
		{"long to short", later(), e.soon()},
		{"never to short", never, e.soon()},
	} {
		old := expiring(record("before"), c.from)
		ch := change{name: c.name, n: e.create(old), next: expiring(record("after"), c.to)}
		ch.survives = c.to.IsZero() || c.to.After(e.soon().Add(e.expiry))
		// Always: on a slow machine the short one may be gone by now.
		e.save(e.p, ch.n, ch.next, tokencache.Always())
		changes = append(changes, ch)
	}
	e.outlast()
	for _, c := range changes {
		e.Log(c.name)
		if c.survives {
			e.wantStored(ruleExpires, e.peer, c.n, c.next)
			continue
		}
		e.wantAbsent(ruleExpires, e.peer, c.n)
	}
}

// testTombstoneStays: what is removed shortly before it would have expired stays
// removed for as long as the tombstone says, or a save that is late would bring
// it back.
func testTombstoneStays(e *env) {
	for _, at := range []time.Time{later(), {}} {
		n, dead := e.create(expiring(record("short"), e.soon())), expiring(tombstone(), at)
		e.save(e.p, n, dead, tokencache.Always())
		e.outlast()
		e.wantStored(ruleLikeAnyRecord, e.peer, n, dead)
		err := e.p.Save(e.ctx, n, record("late"), tokencache.Condition{})
		e.want(ruleIfAbsent, err, tokencache.ErrConflict, "Save of a new record over a tombstone")
	}
}

// testExpiryInThePast: such a record is nothing as soon as it is saved, and it
// has replaced what was there.
func testExpiryInThePast(e *env) {
	past := time.Now().Add(-time.Minute)
	n := e.create(expiring(record("too late"), past))
	e.wantAbsent(ruleExpires, e.p, n)

	old := record("before")
	n = e.create(old)
	e.save(e.p, n, expiring(record("too late"), past), tokencache.IfVersion(old.Version))
	e.wantAbsent(ruleExpires, e.p, n)
	e.save(e.peer, n, record("anew"), tokencache.Condition{})
}

// testNoResurrection: a save that was prepared while the record lived does not
// bring it back, and does not change what was created since.
func testNoResurrection(e *env) {
	old := expiring(record("short"), e.soon())
	n := e.create(old)
	e.outlast()
	err := e.p.Save(e.ctx, n, record("late"), tokencache.IfVersion(old.Version))
	e.want(ruleNoInsert, err, tokencache.ErrConflict, "Save, by version, over an expired record")
	e.wantAbsent(ruleExpires, e.p, n)

	created := record("anew")
	e.save(e.peer, n, created, tokencache.Condition{})
	err = e.p.Save(e.ctx, n, record("late"), tokencache.IfVersion(old.Version))
	e.want(ruleConflict, err, tokencache.ErrConflict, "Save by the version of an expired record")
	e.wantStored(ruleSave, e.p, n, created)
}
