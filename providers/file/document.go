package file

import (
	"encoding/binary"
	"maps"
	"math"
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

// size is what the document takes in the file.
func (d *document) size() int {
	size := 8
	for n, r := range d.records {
		size += len(n.Owner) + len(n.Partition) + len(r.sealed) + 36
	}
	for owner := range d.marks {
		size += len(owner) + 28
	}
	return size
}

// The bytes of a document: the number of records, each of them as its owner, partition,
// version of 16 bytes, expiry and content; and the number of marks, each as its owner,
// version and expiry. Numbers have 4 bytes with the highest first, and text and content
// their length before them. An expiry has 8 bytes, nanoseconds since 1970, 0 for never.
// All of it is written with each change, which is why it is no JSON.
func (d *document) encode() []byte {
	b := make([]byte, 0, d.size())
	b = binary.BigEndian.AppendUint32(b, uint32(len(d.records))) // #nosec G115 -- they are smaller than 32 MiB together
	for n, r := range d.records {
		b = appendPart(appendPart(b, n.Owner), n.Partition)
		b = append(b, r.version[:]...)
		b = binary.BigEndian.AppendUint64(b, nanos(r.expires))
		b = appendPart(b, r.sealed)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(d.marks))) // #nosec G115 -- as above
	for owner, m := range d.marks {
		b = appendPart(b, owner)
		b = append(b, m.version[:]...)
		b = binary.BigEndian.AppendUint64(b, nanos(m.expires))
	}
	return b
}

func appendPart[T string | []byte](b []byte, part T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(part))) // #nosec G115 -- as above
	return append(b, part...)
}

// decodeDocument reads what encode has written, of which it keeps parts. Anything else is
// errDamaged.
func decodeDocument(b []byte) (*document, error) {
	d, in := newDocument(), &input{b: b}
	for range in.number() {
		n := tokencache.Name{Owner: string(in.part()), Partition: string(in.part())}
		r := record{version: in.version(), expires: in.expiry(), sealed: in.part()}
		if _, twice := d.records[n]; twice || in.short || len(r.sealed) > tokencache.MaxSealedSize {
			return nil, errDamaged
		}
		d.records[n] = r
	}
	for range in.number() {
		owner := string(in.part())
		m := mark{version: in.version(), expires: in.expiry()}
		if _, twice := d.marks[owner]; twice || in.short {
			return nil, errDamaged
		}
		d.marks[owner] = m
	}
	if in.short || len(in.b) > 0 {
		return nil, errDamaged
	}
	return d, nil
}

// input is what has not been decoded yet.
type input struct {
	b     []byte
	short bool // something was not there
}

func (in *input) next(n int) []byte {
	if in.short || n < 0 || n > len(in.b) {
		in.short = true
		return make([]byte, min(max(n, 0), 16))
	}
	part := in.b[:n:n]
	in.b = in.b[n:]
	return part
}

func (in *input) number() uint32              { return binary.BigEndian.Uint32(in.next(4)) }
func (in *input) part() []byte                { return in.next(int(in.number())) }
func (in *input) version() tokencache.Version { return tokencache.Version(in.next(16)) }

func (in *input) expiry() time.Time {
	at := binary.BigEndian.Uint64(in.next(8))
	if at == 0 || at > math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(0, int64(at))
}

// nanos converts an expiry. The range of 63 bits ends in 2262, and what lies beyond might
// as well be never.
func nanos(t time.Time) uint64 {
	switch {
	case t.IsZero(), t.Year() > 2261:
		return 0
	case t.Year() < 1970:
		return 1
	}
	return max(1, uint64(t.UnixNano())) // #nosec G115 -- not before 1970
}
