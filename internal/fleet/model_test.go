package fleet

import (
	"github.com/anishathalye/porcupine"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// stored is all there is to know about a name and its owner, and what a load
// shows of it. Nothing stored has the zero version.
type stored struct {
	Version tokencache.Version
	Removed bool
	Mark    tokencache.Version
}

// input is one call of a history.
type input struct {
	Op      string // load, save, touch or mark
	Version tokencache.Version
	// Of a save:
	Removed     bool
	Mark        tokencache.Version
	Cond        string // absent, version or always
	CondVersion tokencache.Version
	Repeated    bool // the driver may have sent it twice
}

// output is its answer.
type output struct {
	Outcome string // done, not found, conflict, removed or unknown
	Seen    stored // by a load
}

const unknown = "unknown"

// step is the contract of tokencache.Provider: what the call must answer, and what
// is stored afterwards.
func (s stored) step(in input) (output, stored) {
	there := s.Version != (tokencache.Version{})
	switch in.Op {
	case "load":
		if !there {
			return output{"not found", stored{Mark: s.Mark}}, s
		}
		return output{"done", s}, s
	case "mark":
		s.Mark = in.Version
		return output{Outcome: "done"}, s
	case "touch":
		switch {
		case !there:
			return output{Outcome: "not found"}, s
		case s.Version != in.Version:
			return output{Outcome: "conflict"}, s
		}
		return output{Outcome: "done"}, s
	}
	if !in.Removed && s.Mark != (tokencache.Version{}) && s.Mark != in.Mark {
		return output{Outcome: "removed"}, s
	}
	holds := map[string]bool{"absent": !there, "version": there && s.Version == in.CondVersion, "always": true}[in.Cond]
	if !holds {
		return output{Outcome: "conflict"}, s
	}
	return output{Outcome: "done"}, stored{Version: in.Version, Removed: in.Removed, Mark: s.Mark}
}

// model is the contract for porcupine. A call whose outcome is not known may have
// happened at any time after its beginning, or never: such a call has no end, and
// the checker places it last if it did not.
//
// A save that a driver repeats after its reply was lost finds itself stored, and is
// refused: the contract leaves it to the caller to find out.
func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return stored{} },
		Step: func(state, in, out any) (bool, any) {
			s, q, a := state.(stored), in.(input), out.(output)
			want, next := s.step(q)
			switch {
			case a == want, a.Outcome == unknown:
				return true, next
			case q.Op == "save" && q.Repeated && want.Outcome == "done":
				return a.Outcome == "conflict" || a.Outcome == "removed", next
			}
			return false, s
		},
		Hash: func(state any) uint64 {
			v := state.(stored).Version
			return uint64(v[0]) | uint64(v[1])<<8
		},
	}
}
