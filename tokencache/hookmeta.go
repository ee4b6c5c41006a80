package tokencache

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// hookMember is the member of the document that holds what a record of a
// provider has beside it; other libraries keep it or drop it:
//
//	"coatcheck": {"generation": "32 hexadecimal digits", "end": seconds since 1970}
//
// A document without it, such as another library's, is in no generation: it opens
// for the account, and for no session until somebody signs in.
const hookMember = "coatcheck"

type hookMeta struct {
	Generation string `json:"generation"`
	End        int64  `json:"end,omitempty"`
}

// splitMeta returns what the member says, and the document without it. What
// does not decode says nothing.
func (d *document) splitMeta() (m meta, rest *document) {
	rest = &document{sections: d.sections}
	for _, f := range d.unknown {
		if f.name == hookMember {
			m = parseHookMeta(f.value)
		} else {
			rest.unknown = append(rest.unknown, f)
		}
	}
	return m, rest
}

func parseHookMeta(text []byte) (m meta) {
	var h hookMeta
	if json.Unmarshal(text, &h) != nil {
		return m
	}
	g, err := hex.DecodeString(h.Generation)
	if err != nil || len(g) != len(m.generation) {
		return m
	}
	copy(m.generation[:], g)
	if h.End > 0 && h.End <= maxUnix {
		m.end = time.Unix(h.End, 0)
	}
	return m
}

// withMeta returns the document with the member.
func (d *document) withMeta(m meta) *document {
	_, with := d.splitMeta()
	h := hookMeta{Generation: hex.EncodeToString(m.generation[:])}
	if !m.end.IsZero() {
		h.End = m.end.Unix()
	}
	value, _ := json.Marshal(h) // plain fields: cannot fail
	with.unknown = append(with.unknown, field{name: hookMember, value: value})
	slices.SortFunc(with.unknown, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return with
}

// empty tells whether the document says nothing about anybody.
func (d *document) empty() bool {
	for _, items := range d.sections {
		if len(items) > 0 {
			return false
		}
	}
	return true
}
