package providertest

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// snapshot is all there is to know about one name and its owner, and what a
// Load shows of it. Nothing stored has the zero version.
type snapshot struct {
	version tokencache.Version
	removed bool
	mark    tokencache.Version
}

// request is a call of OpLoad, OpSave, OpSetMark or OpTouch.
type request struct {
	op Op
	// version is of the record saved, the mark set, or the record touched.
	version tokencache.Version
	// removed, mark and cond are of a save.
	removed bool
	mark    tokencache.Version
	cond    tokencache.Condition
}

// reply is how a call ended; seen is set by a Load only.
type reply struct {
	outcome outcome
	seen    snapshot
}

type outcome string

const (
	done     outcome = "done"
	notFound outcome = "ErrNotFound"
	conflict outcome = "ErrConflict"
	refused  outcome = "ErrRemoved"
	// unknown is any other error: the call may have happened.
	unknown outcome = "an error"
)

// step is the contract: what the call must answer when s is stored, and what is
// stored afterwards.
func (s snapshot) step(q request) (reply, snapshot) {
	switch q.op {
	case OpLoad:
		if s.version == (tokencache.Version{}) {
			return reply{notFound, snapshot{mark: s.mark}}, s
		}
		return reply{done, s}, s
	case OpSetMark:
		s.mark = q.version
		return reply{outcome: done}, s
	case OpTouch:
		switch s.version {
		case tokencache.Version{}:
			return reply{outcome: notFound}, s
		case q.version:
			return reply{outcome: done}, s
		}
		return reply{outcome: conflict}, s
	default:
		return s.save(q)
	}
}

func (s snapshot) save(q request) (reply, snapshot) {
	if !q.removed && s.mark != (tokencache.Version{}) && s.mark != q.mark {
		return reply{outcome: refused}, s
	}
	there := s.version != (tokencache.Version{})
	v, byVersion := q.cond.Version()
	holds := q.cond.Unconditional() || byVersion && there && s.version == v || !byVersion && !there
	if !holds {
		return reply{outcome: conflict}, s
	}
	return reply{outcome: done}, snapshot{version: q.version, removed: q.removed, mark: s.mark}
}

// mostSteps bounds one check, in memory as well. One that succeeds takes a few
// thousand, and up to a hundred thousand if replies are lost.
const mostSteps = 500_000

// model returns the contract for porcupine, and whether a check was given up,
// which bounds it by steps: there is no clock in a bubble.
//
// A call whose outcome is unknown has not returned, as far as porcupine knows,
// and so comes last if it never happened.
func model() (m porcupine.Model, givenUp func() bool) {
	steps := 0
	m.Init = func() any { return snapshot{} }
	m.Step = func(state, input, output any) (bool, any) {
		if steps++; steps > mostSteps {
			return false, state
		}
		s, q, a := state.(snapshot), input.(request), output.(reply)
		want, next := s.step(q)
		return a == want || a.outcome == unknown, next
	}
	m.Hash = func(state any) uint64 {
		v := state.(snapshot).version
		return uint64(v[0]) | uint64(v[1])<<8
	}
	return m, func() bool { return steps > mostSteps }
}

// explain reports if no order of the calls explains their answers.
func (e *env) explain(ops []porcupine.Operation) {
	e.Helper()
	m, givenUp := model()
	result, info := porcupine.CheckOperationsVerbose(m, ops, 0)
	switch {
	case result == porcupine.Ok:
	case givenUp():
		e.Logf("%d calls overlap too much to be checked: nothing was found", len(ops))
	default:
		rule, stuck := unexplained(ops, info)
		e.broken(rule, "no order of %d calls under one name explains their answers: %s", len(ops), stuck)
	}
}

// unexplained returns the first call, by its end, that has no place in the
// longest order that was found.
func unexplained(ops []porcupine.Operation, info porcupine.LinearizationInfo) (rule, what string) {
	var longest []porcupine.Operation
	for _, order := range info.PartialLinearizationsOperations()[0] {
		if len(order) > len(longest) {
			longest = order
		}
	}
	placed := make(map[int64]bool)
	var s snapshot
	for _, op := range longest {
		placed[op.Call] = true
		_, s = s.step(op.Input.(request))
	}
	var first porcupine.Operation
	for _, op := range ops {
		if !placed[op.Call] && (first.Return == 0 || op.Return < first.Return) {
			first = op
		}
	}
	q, a := first.Input.(request), first.Output.(reply)
	want, _ := s.step(q)
	rule = map[Op]string{OpLoad: ruleReadYourWrites, OpSave: ruleSave, OpSetMark: ruleMarkUntil, OpTouch: ruleTouch}[q.op]
	return rule, fmt.Sprintf("%s answered %s, want %s or what came shortly before", q.op, a, want)
}

func (a reply) String() string {
	return fmt.Sprintf("%s (version %v, removed %v, mark %v)", a.outcome, a.seen.version, a.seen.removed, a.seen.mark)
}
