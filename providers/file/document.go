package file

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// document is everything that is stored. One that others can see is never changed:
// whoever changes anything changes a copy.
type document struct {
	records map[tokencache.Name]record
	marks   map[string]mark // by owner
}

// record is one that is stored. Its bytes are shared and never changed.
type record struct {
	sealed  []byte
	version tokencache.Version
	expires time.Time
}

// mark is an owner's removal mark.
type mark struct {
	version tokencache.Version
	expires time.Time
}

// gone tells whether an expiry has come. Zero is never.
func gone(expires, now time.Time) bool { return !expires.IsZero() && !now.Before(expires) }

func newDocument() *document {
	return &document{records: map[tokencache.Name]record{}, marks: map[string]mark{}}
}

// clone returns a copy without what has expired.
func (d *document) clone(now time.Time) *document {
	c := &document{records: maps.Clone(d.records), marks: maps.Clone(d.marks)}
	maps.DeleteFunc(c.records, func(_ tokencache.Name, r record) bool { return gone(r.expires, now) })
	maps.DeleteFunc(c.marks, func(_ string, m mark) bool { return gone(m.expires, now) })
	return c
}

// expired is how many records and marks have expired.
func (d *document) expired(now time.Time) int {
	c := d.clone(now)
	return len(d.records) - len(c.records) + len(d.marks) - len(c.marks)
}

// find returns what is stored under the name.
func (d *document) find(n tokencache.Name, now time.Time) (record, bool) {
	r, ok := d.records[n]
	return r, ok && !gone(r.expires, now)
}

// mark returns the owner's removal mark, zero if there is none.
func (d *document) mark(owner string, now time.Time) tokencache.Version {
	if m, ok := d.marks[owner]; ok && !gone(m.expires, now) {
		return m.version
	}
	return tokencache.Version{}
}

// size is about what the document takes in the file.
func (d *document) size() int {
	size := 0
	for n, r := range d.records {
		size += (len(n.Owner)+len(n.Partition)+len(r.sealed))*4/3 + 128
	}
	return size + 128*len(d.marks)
}

// The document in a file is a JSON object. Bytes are base64 (RFC 4648 §4), names
// included, as they may be any; an expiry is in nanoseconds since 1970, 0 for never.
type (
	documentJSON struct {
		Records []recordJSON `json:"records,omitempty"`
		Marks   []markJSON   `json:"marks,omitempty"`
	}
	recordJSON struct {
		Owner     []byte `json:"owner"`
		Partition []byte `json:"partition"`
		Version   []byte `json:"version"`
		Sealed    []byte `json:"sealed,omitempty"`
		Expires   int64  `json:"expires,omitempty"`
	}
	markJSON struct {
		Owner   []byte `json:"owner"`
		Version []byte `json:"version"`
		Expires int64  `json:"expires,omitempty"`
	}
)

func (d *document) encode() ([]byte, error) {
	var out documentJSON
	for n, r := range d.records {
		out.Records = append(out.Records, recordJSON{
			Owner: []byte(n.Owner), Partition: []byte(n.Partition),
			Version: r.version[:], Sealed: r.sealed, Expires: nanos(r.expires),
		})
	}
	for owner, m := range d.marks {
		out.Marks = append(out.Marks, markJSON{Owner: []byte(owner), Version: m.version[:], Expires: nanos(m.expires)})
	}
	return json.Marshal(&out)
}

// decodeDocument reads what encode has written. Anything else is errDamaged.
func decodeDocument(b []byte) (*document, error) {
	var in documentJSON
	if json.Unmarshal(b, &in) != nil {
		return nil, errDamaged
	}
	d := newDocument()
	for i := range in.Records {
		r := &in.Records[i]
		n := tokencache.Name{Owner: string(r.Owner), Partition: string(r.Partition)}
		if _, twice := d.records[n]; twice || len(r.Version) != len(tokencache.Version{}) || len(r.Sealed) > tokencache.MaxSealedSize {
			return nil, errDamaged
		}
		d.records[n] = record{sealed: r.Sealed, version: tokencache.Version(r.Version), expires: expiry(r.Expires)}
	}
	for _, m := range in.Marks {
		if _, twice := d.marks[string(m.Owner)]; twice || len(m.Version) != len(tokencache.Version{}) {
			return nil, errDamaged
		}
		d.marks[string(m.Owner)] = mark{version: tokencache.Version(m.Version), expires: expiry(m.Expires)}
	}
	return d, nil
}

// nanos converts an expiry. The range of 64 bits ends in 2262, and what lies beyond
// might as well be never.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero(), t.Year() > 2261:
		return 0
	case t.Year() < 1970:
		return 1
	}
	return t.UnixNano()
}

func expiry(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}
