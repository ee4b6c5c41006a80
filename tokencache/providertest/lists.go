package providertest

import (
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func (e *env) list(p tokencache.Provider, owner string) []tokencache.Name {
	e.Helper()
	names, err := p.Capabilities().Owners.List(e.ctx, owner)
	e.want(ruleList, err, nil, "List")
	return names
}

// wantListed reports if the owner's list is another, on either machine.
func (e *env) wantListed(rule, owner string, want ...tokencache.Name) {
	e.Helper()
	for _, p := range []tokencache.Provider{e.p, e.peer} {
		listed := make(map[tokencache.Name]bool)
		for _, n := range e.list(p, owner) {
			if listed[n] {
				e.broken(rule, "List has a name twice")
			}
			listed[n] = true
		}
		for _, n := range want {
			if !listed[n] {
				e.broken(rule, "List lacks a partition: it has %d, want %d", len(listed), len(want))
			}
		}
		if len(listed) != len(want) {
			e.broken(rule, "List has %d partitions, want %d", len(listed), len(want))
		}
	}
}

func testList(e *env) {
	owner := newHash()
	e.wantListed(ruleListEmpty, owner)
	var names []tokencache.Name
	for range 20 {
		n := tokencache.Name{Owner: owner, Partition: newHash()}
		r := record("there")
		e.save(e.p, n, r, tokencache.Condition{})
		names = append(names, n)
		// Written again, it is listed once.
		e.save(e.peer, n, record("written again"), tokencache.IfVersion(r.Version))
	}
	e.wantListed(ruleList, owner, names...)

	other := e.create(record("of another"))
	e.wantListed(ruleList, owner, names...)
	e.wantListed(ruleList, other.Owner, other)

	// A save that did not happen is not listed.
	_ = e.p.Save(e.ctx, tokencache.Name{Owner: owner, Partition: newHash()}, record("x"), tokencache.IfVersion(tokencache.NewVersion()))
	e.wantListed(ruleList, owner, names...)
}

func testListRemoved(e *env) {
	owner := newHash()
	kept := tokencache.Name{Owner: owner, Partition: newHash()}
	gone := tokencache.Name{Owner: owner, Partition: newHash()}
	e.save(e.p, kept, record("there"), tokencache.Condition{})
	e.save(e.p, gone, record("there"), tokencache.Condition{})
	dead := tombstone()
	e.save(e.p, gone, dead, tokencache.Always())
	e.wantListed(ruleList, owner, kept)
	// Nor is a tombstone where nothing was.
	e.save(e.p, tokencache.Name{Owner: owner, Partition: newHash()}, tombstone(), tokencache.Condition{})
	e.wantListed(ruleList, owner, kept)
	// Signed in again, it is back.
	e.save(e.peer, gone, record("again"), tokencache.IfVersion(dead.Version))
	e.wantListed(ruleList, owner, kept, gone)
}

// testListExpired also changes expiries: an index that keeps one of its own must
// follow.
func testListExpired(e *env) {
	owner := newHash()
	save := func(expiries ...time.Time) tokencache.Name {
		n := tokencache.Name{Owner: owner, Partition: newHash()}
		for _, at := range expiries {
			e.save(e.p, n, expiring(record("there"), at), tokencache.Always())
		}
		return n
	}
	long := save(later())
	never := save(time.Time{})
	lengthened := save(e.soon(), later())
	forEver := save(e.soon(), time.Time{})
	short := save(e.soon())
	save(later(), e.soon())
	e.outlast()
	e.wantListed(ruleList, owner, long, never, lengthened, forEver)
	e.save(e.p, short, record("anew"), tokencache.Condition{})
	e.wantListed(ruleList, owner, long, never, lengthened, forEver, short)
}
