package tokencache

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"time"
)

// The plaintext of a partition is a binary index and then the tokens in the
// unified schema, so that a load decodes only the token that it hands out.
// Integers are big endian.
//
//	bytes 0-2    "CCT"
//	byte  3      format, 1
//	bytes 4-19   generation (ticket.go)
//	bytes 20-35  the owner's removal mark that the writer saw; 0: none
//	bytes 36-43  absolute end, int64 seconds since 1970; 0: none
//	bytes 44-47  n, the length of the index, uint32
//	bytes 48-51  m, the length of the document, uint32
//	n bytes      the index
//	m bytes      the document, JSON (document.go); nothing follows it
//
// The index is made of unsigned LEB128 numbers (binary.Uvarint), called u below,
// and texts: a u for the length and so many bytes of UTF-8.
//
//	u            number of entries
//	u            number of scopes in all entries together
//	entries      in the order of the document
//
// An entry:
//
//	byte   kind: 1 access token, 2 refresh token, 3 client that is in a family
//	byte   flags: 1 home, 2 special; see below
//	text   client ID
//	text   home account ID
//	text   realm
//	text   family: of the refresh token, or of the client
//	text   resource
//	text   claims: unpadded base64url SHA-256 of the claims request, after "cae:"
//	       if the token is one of continuous access evaluation (Request.CAE)
//	text   assertion: hash of the incoming token, unpadded
//	u      number of scopes, and so many texts, as granted
//	u u u  cached, expires, refresh on: seconds since 1970, 0: not known
//	u u    where in the document the JSON string with the secret begins, and its
//	       length with the quotes; 0 0: none
//
// Texts that do not apply are empty. Flag home: the token is from the directory
// that its user signed in to. Flag special: the token is not a plain bearer
// token (pop, for one), or is qualified by something this library does not know,
// so that it must not be served. A token of continuous access evaluation is
// special on the wire: versions that do not know of it see nothing but that, and
// obtain another one.
const (
	plainMagic  = "CCT\x01"
	plainHeader = 52
	minEntry    = 15 // bytes of an entry whose texts are empty
)

type entryKind byte

const (
	entryAccess  entryKind = 1
	entryRefresh entryKind = 2
	entryClient  entryKind = 3
)

type entryFlags byte

const (
	flagHome    entryFlags = 1
	flagSpecial entryFlags = 2
	flagCAE     entryFlags = 4 // in memory alone; see caeMark
)

// caeMark begins the claims of a token of continuous access evaluation. No hash
// has a colon.
const caeMark = "cae:"

// written returns what is written of the flags and the claims.
func (e *entry) written() (entryFlags, string) {
	switch {
	case e.flags&flagCAE != 0:
		return e.flags&^flagCAE | flagSpecial, caeMark + e.claims
	case e.flags&flagSpecial != 0 && strings.HasPrefix(e.claims, caeMark):
		return e.flags, "" // another library's text must not be read as the mark
	}
	return e.flags, e.claims
}

// unmark undoes written.
func (e *entry) unmark() {
	if e.kind != entryAccess || e.flags&flagSpecial == 0 {
		return
	}
	if claims, ok := strings.CutPrefix(e.claims, caeMark); ok {
		e.flags, e.claims = e.flags&^flagSpecial|flagCAE, claims
	}
}

// entry is what the index says of one item.
type entry struct {
	kind  entryKind
	flags entryFlags

	client, account, realm, family, resource, claims, assertion string

	scopes                       []string
	cachedAt, expires, refreshOn int64
	span                         span

	secret atomic.Pointer[Secret] // decoded, once it was asked for
}

// meta is what belongs to the partition rather than to a token in it.
type meta struct {
	generation generation
	mark       Version   // the owner's removal mark when this was saved
	end        time.Time // whatever is refreshed until then; zero: none
}

var errPlain = errors.New("tokencache: the plaintext of the partition is malformed")

func (e *entry) append(b []byte) []byte {
	flags, claims := e.written()
	b = append(b, byte(e.kind), byte(flags))
	for _, s := range [...]string{e.client, e.account, e.realm, e.family, e.resource, claims, e.assertion} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(e.scopes)))
	for _, s := range e.scopes {
		b = appendText(b, s)
	}
	for _, n := range [...]int64{e.cachedAt, e.expires, e.refreshOn, int64(e.span.offset), int64(e.span.length)} {
		b = binary.AppendUvarint(b, uint64(n)) // #nosec G115 -- none is negative
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendIndex appends the index of the entries.
func appendIndex(b []byte, entries []entry) []byte {
	scopes := 0
	for i := range entries {
		scopes += len(entries[i].scopes)
	}
	b = binary.AppendUvarint(b, uint64(len(entries)))
	b = binary.AppendUvarint(b, uint64(scopes)) // #nosec G115 -- a sum of lengths
	for i := range entries {
		b = entries[i].append(b)
	}
	return b
}

// parseIndex reads what appendIndex wrote, for a document of that length. All
// texts of the result share one string.
func parseIndex(b []byte, document int) ([]entry, error) {
	r := &indexReader{b: b, text: string(b)}
	count, scopes := r.number(len(b)/minEntry), r.number(len(b))
	if r.bad {
		return nil, errPlain
	}
	r.scopes = make([]string, 0, scopes)
	entries := make([]entry, count)
	for i := range entries {
		r.entry(&entries[i], document)
		if r.bad {
			return nil, errPlain
		}
	}
	if r.at != len(b) || len(r.scopes) != scopes {
		return nil, errPlain
	}
	return entries, nil
}

// indexReader reads an index. Once something does not fit, it is bad for good.
type indexReader struct {
	b      []byte
	text   string // the same bytes
	at     int
	scopes []string // room for all of them
	bad    bool
}

func (r *indexReader) entry(e *entry, document int) {
	e.kind, e.flags = entryKind(r.byte()), entryFlags(r.byte())
	r.bad = r.bad || e.kind < entryAccess || e.kind > entryClient || e.flags&^(flagHome|flagSpecial) != 0
	for _, s := range [...]*string{&e.client, &e.account, &e.realm, &e.family, &e.resource, &e.claims, &e.assertion} {
		*s = r.string()
	}
	e.unmark()
	first, count := len(r.scopes), r.number(cap(r.scopes)-len(r.scopes))
	for range count {
		r.scopes = append(r.scopes, r.string())
	}
	e.scopes = r.scopes[first:len(r.scopes):len(r.scopes)]
	for _, n := range [...]*int64{&e.cachedAt, &e.expires, &e.refreshOn} {
		*n = r.time()
	}
	e.span.offset = r.number(document)
	e.span.length = r.number(document - e.span.offset)
}

func (r *indexReader) byte() byte {
	if r.bad || r.at >= len(r.b) {
		r.bad = true
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

// number reads a number that may be no larger than the limit.
func (r *indexReader) number(limit int) int {
	return int(r.uint(uint64(limit))) // #nosec G115 -- no limit is negative
}

// time reads seconds since 1970.
func (r *indexReader) time() int64 {
	return int64(r.uint(maxUnix)) // #nosec G115 -- at most maxUnix
}

func (r *indexReader) uint(limit uint64) uint64 {
	if r.bad {
		return 0
	}
	n, size := binary.Uvarint(r.b[r.at:])
	if size <= 0 || n > limit {
		r.bad = true
		return 0
	}
	r.at += size
	return n
}

func (r *indexReader) string() string {
	n := r.number(len(r.b))
	if n > len(r.b)-r.at {
		r.bad = true
	}
	if r.bad {
		return ""
	}
	r.at += n
	return r.text[r.at-n : r.at]
}
