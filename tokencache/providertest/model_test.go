package providertest

import (
	"math"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestModel tries histories of a few calls, each from its first number to its
// second. Versions are letters, and a dot is none.
func TestModel(t *testing.T) {
	t.Parallel()
	version := func(c byte) (v tokencache.Version) {
		if c != '.' {
			v[0] = c
		}
		return v
	}
	always := tokencache.Always()
	over := func(c byte) tokencache.Condition { return tokencache.IfVersion(version(c)) }
	op := func(begin, end int64, q request, a reply) porcupine.Operation {
		if a.outcome == unknown {
			end = math.MaxInt64
		}
		return porcupine.Operation{Call: begin, Return: end, Input: q, Output: a}
	}
	save := func(begin, end int64, v byte, cond tokencache.Condition, o outcome) porcupine.Operation {
		return op(begin, end, request{op: OpSave, version: version(v), cond: cond}, reply{outcome: o})
	}
	remove := func(begin, end int64, v byte, o outcome) porcupine.Operation {
		return op(begin, end, request{op: OpSave, version: version(v), removed: true, cond: always}, reply{outcome: o})
	}
	marked := func(o porcupine.Operation, mark byte) porcupine.Operation {
		q := o.Input.(request)
		q.mark = version(mark)
		o.Input = q
		return o
	}
	load := func(begin, end int64, v, mark byte, removed bool) porcupine.Operation {
		a := reply{done, snapshot{version(v), removed, version(mark)}}
		if v == '.' {
			a.outcome = notFound
		}
		return op(begin, end, request{op: OpLoad}, a)
	}
	mark := func(begin, end int64, m byte, o outcome) porcupine.Operation {
		return op(begin, end, request{op: OpSetMark, version: version(m)}, reply{outcome: o})
	}
	touch := func(begin, end int64, v byte, o outcome) porcupine.Operation {
		return op(begin, end, request{op: OpTouch, version: version(v)}, reply{outcome: o})
	}
	none := tokencache.Condition{}
	type ops = []porcupine.Operation
	for _, tt := range []struct {
		name string
		ops  ops
		ok   bool
	}{
		{"create and load", ops{save(1, 2, 'a', none, done), load(3, 4, 'a', '.', false)}, true},
		{"a read that misses a write", ops{save(1, 2, 'a', none, done), load(3, 4, '.', '.', false)}, false},
		{"a read beside a write", ops{save(1, 4, 'a', none, done), load(2, 3, '.', '.', false)}, true},
		{"a stale read", ops{save(1, 2, 'a', none, done), save(3, 4, 'b', over('a'), done), load(5, 6, 'a', '.', false)}, false},
		{"time runs backwards for a reader", ops{
			save(1, 2, 'a', none, done), save(3, 8, 'b', over('a'), done), load(4, 5, 'b', '.', false), load(6, 7, 'a', '.', false),
		}, false},
		{"a lost update", ops{save(1, 2, 'a', none, done), save(3, 6, 'b', over('a'), done), save(4, 5, 'c', over('a'), done)}, false},
		{"a conflict", ops{save(1, 2, 'a', none, done), save(3, 6, 'b', over('a'), done), save(4, 5, 'c', over('a'), conflict)}, true},
		{"a conflict with nothing", ops{save(1, 2, 'a', none, conflict)}, false},
		{"an update that inserts", ops{save(1, 2, 'b', over('a'), done)}, false},
		{"nothing has no version", ops{save(1, 2, 'b', over('.'), done)}, false},
		{"a tombstone", ops{remove(1, 2, 'a', done), load(3, 4, 'a', '.', true), save(5, 6, 'b', none, conflict)}, true},
		{"a tombstone that is forgotten", ops{remove(1, 2, 'a', done), save(3, 4, 'b', none, done)}, false},
		{"an old mark", ops{mark(1, 2, 'm', done), save(3, 4, 'a', none, refused), load(5, 6, '.', 'm', false)}, true},
		{"an old mark that is ignored", ops{mark(1, 2, 'm', done), save(3, 4, 'a', none, done)}, false},
		{"the mark", ops{mark(1, 2, 'm', done), marked(save(3, 4, 'a', none, done), 'm')}, true},
		{"the mark before the condition", ops{mark(1, 2, 'm', done), save(3, 4, 'a', over('b'), conflict)}, false},
		{"a tombstone needs no mark", ops{mark(1, 2, 'm', done), remove(3, 4, 'a', done)}, true},
		{"a tombstone that is refused", ops{mark(1, 2, 'm', done), remove(3, 4, 'a', refused)}, false},
		{"a save that may have happened did", ops{save(1, 2, 'a', none, unknown), load(3, 4, 'a', '.', false)}, true},
		{"a save that may have happened did not", ops{save(1, 2, 'a', none, unknown), load(3, 4, '.', '.', false)}, true},
		{"a save that may have happened did later", ops{
			save(1, 2, 'a', none, unknown), load(3, 4, '.', '.', false), load(5, 6, 'a', '.', false),
		}, true},
		{"a save that may have happened did twice", ops{
			save(1, 2, 'a', none, unknown), load(3, 4, 'a', '.', false), remove(5, 6, 'b', done), load(7, 8, 'a', '.', false),
		}, false},
		{"a mark that may have been set", ops{mark(1, 2, 'm', unknown), save(3, 4, 'a', none, done), load(5, 6, 'a', 'm', false)}, true},
		{"touches", ops{
			touch(1, 2, 'a', notFound), save(3, 4, 'a', none, done), touch(5, 6, 'a', done), touch(7, 8, 'b', conflict),
		}, true},
		{"a touch of another version", ops{save(1, 2, 'a', none, done), touch(3, 4, 'b', done)}, false},
	} {
		m, givenUp := model()
		if got := porcupine.CheckOperations(m, tt.ops); got != tt.ok || givenUp() {
			t.Errorf("%s: explained: %v, given up: %v; want %v", tt.name, got, givenUp(), tt.ok)
		}
	}
}

// TestModelGivesUp: a check of calls that all overlap ends, without a verdict.
func TestModelGivesUp(t *testing.T) {
	t.Parallel()
	var ops []porcupine.Operation
	for i := range 40 {
		q := request{op: OpSave, version: tokencache.Version{byte(i + 1)}, cond: tokencache.Always()}
		ops = append(ops, porcupine.Operation{Call: int64(i), Return: 100, Input: q, Output: reply{outcome: done}})
	}
	never := reply{done, snapshot{version: tokencache.Version{200}}}
	ops = append(ops, porcupine.Operation{Call: 101, Return: 102, Input: request{op: OpLoad}, Output: never})
	m, givenUp := model()
	if porcupine.CheckOperations(m, ops) || !givenUp() {
		t.Error("a check that takes 2^40 steps came to an end")
	}
}

// TestUnexplained: a failure names the call that has no place.
func TestUnexplained(t *testing.T) {
	t.Parallel()
	a := tokencache.Version{0xaa}
	ops := []porcupine.Operation{
		{Call: 1, Return: 2, Input: request{op: OpSave, version: a}, Output: reply{outcome: done}},
		{Call: 3, Return: 4, Input: request{op: OpLoad}, Output: reply{outcome: notFound}},
	}
	m, _ := model()
	result, info := porcupine.CheckOperationsVerbose(m, ops, 0)
	if result != porcupine.Illegal {
		t.Fatalf("got %v, want %v", result, porcupine.Illegal)
	}
	rule, what := unexplained(ops, info)
	if rule != ruleReadYourWrites || !strings.Contains(what, "load answered ErrNotFound") || !strings.Contains(what, a.String()) {
		t.Errorf("got %q, %q", rule, what)
	}
}
