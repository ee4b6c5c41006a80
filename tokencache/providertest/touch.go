package providertest

import (
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func touchTests() []testCase {
	return []testCase{
		{"Changes", testTouchChanges},
		{"Errors", testTouchErrors},
		{"Tombstone", testTouchTombstone},
		{"Index", testTouchIndex},
	}
}

// testTouchChanges moves expiries in every direction; content and version stay.
func testTouchChanges(e *env) {
	type touched struct {
		what     string
		n        tokencache.Name
		r        tokencache.Record
		survives bool
	}
	var all []touched
	touch := func(what string, from, to time.Time, survives bool) {
		e.Helper()
		r := expiring(record(what), from)
		n := e.create(r)
		e.want(ruleTouch, e.caps.Toucher.Touch(e.ctx, n, r.Version, to), nil, "Touch, "+what)
		all = append(all, touched{what, n, expiring(r, to), survives})
	}
	// Ten times the life, so that a slow machine still finds it alive.
	short := time.Now().Add(10 * e.expiry)
	touch("longer", short, later(), true)
	touch("to never", short, time.Time{}, true)
	touch("shorter", later(), e.soon(), false)
	touch("from never", time.Time{}, e.soon(), false)
	touch("to the past", later(), time.Now().Add(-time.Minute), false)
	for range 8 {
		e.outlast()
	}
	for _, c := range all {
		e.Log(c.what)
		for _, p := range []tokencache.Provider{e.p, e.peer} {
			if c.survives {
				e.wantStored(ruleTouch, p, c.n, c.r)
				continue
			}
			e.wantAbsent(ruleTouch, p, c.n)
		}
		if c.survives {
			e.want(ruleTouchContent, e.p.Save(e.ctx, c.n, record("next"), tokencache.IfVersion(c.r.Version)), nil,
				"Save, by version, after Touch")
		}
	}
}

func testTouchErrors(e *env) {
	touch := e.caps.Toucher.Touch
	none := newName()
	e.want(ruleTouchErrors, touch(e.ctx, none, tokencache.NewVersion(), later()), tokencache.ErrNotFound, "Touch of what is absent")
	e.want(ruleTouchErrors, touch(e.ctx, none, tokencache.Version{}, later()), tokencache.ErrNotFound, "Touch of what is absent")
	e.wantAbsent(ruleTouch, e.p, none)

	r := expiring(record("there"), later())
	n := e.create(r)
	err := touch(e.ctx, n, tokencache.NewVersion(), e.soon())
	e.want(ruleTouchErrors, err, tokencache.ErrConflict, "Touch of another version")

	short := expiring(record("short"), e.soon())
	m := e.create(short)
	e.outlast()
	e.wantStored(ruleTouch, e.p, n, r) // the refused touch changed nothing
	err = touch(e.ctx, m, short.Version, later())
	e.want(ruleTouchErrors, err, tokencache.ErrNotFound, "Touch of what has expired")
	e.wantAbsent(ruleTouch, e.peer, m)
}

func testTouchTombstone(e *env) {
	live, dead := record("about to go"), expiring(tombstone(), time.Now().Add(10*e.expiry))
	n := e.create(live)
	e.save(e.p, n, dead, tokencache.IfVersion(live.Version))
	// The request that is late touches what it had loaded.
	err := e.caps.Toucher.Touch(e.ctx, n, live.Version, later())
	e.want(ruleTouchErrors, err, tokencache.ErrConflict, "Touch, by its former version, of what was removed")
	e.wantStored(ruleTouch, e.p, n, dead)

	err = e.caps.Toucher.Touch(e.ctx, n, dead.Version, later())
	e.want(ruleLikeAnyRecord, err, nil, "Touch of a tombstone")
	e.wantStored(ruleLikeAnyRecord, e.p, n, expiring(dead, later()))
}

// testTouchIndex: an index that keeps expiries of its own must follow a touch.
func testTouchIndex(e *env) {
	if e.caps.Owners == nil {
		e.Skip("the provider does not offer Capabilities.Owners")
	}
	r := expiring(record("there"), time.Now().Add(10*e.expiry))
	n := e.create(r)
	e.want(ruleTouch, e.caps.Toucher.Touch(e.ctx, n, r.Version, later()), nil, "Touch")
	e.wantListed(ruleList, n.Owner, n)
	for range 8 {
		e.outlast()
	}
	e.wantListed(ruleList, n.Owner, n)

	e.want(ruleTouch, e.caps.Toucher.Touch(e.ctx, n, r.Version, e.soon()), nil, "Touch")
	e.outlast()
	e.wantListed(ruleList, n.Owner)
}
