package session

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A record in the manager's store is a session with one value, a text, which every
// Codec can encode: unpadded base64url (RFC 4648 §5) of
//
//	 1 byte   format, 1
//	16 bytes  version
//	 8 bytes  expiry in milliseconds since 1970, big-endian; 0 for never
//	          sealed bytes; none for a tombstone
const (
	format   = 1
	headSize = 1 + len(tokencache.Version{})
	minSize  = headSize + 8
	// maxStored is the largest value that is decoded: twice the largest text, for
	// what a Codec adds.
	maxStored = 2 * (minSize + tokencache.MaxSealedSize + 2) / 3 * 4
)

// tokenOf returns the token that the store keeps the record under: 43 characters,
// like those of scs, for which some stores have columns. No cookie contains the
// first one, and a hash of scs does not either.
func tokenOf(name tokencache.Name) string {
	h := sha256.New()
	for _, part := range []string{"coatcheck session record 1", name.Owner, name.Partition} {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) // #nosec G115 -- no part is 4 GiB long
		_, _ = h.Write([]byte(part))
	}
	return ";" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:42]
}

// lastExpiry stands for never, and for all that comes after it: some stores count
// nanoseconds in 64 bits.
var lastExpiry = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

func forStore(expires time.Time) time.Time { return earlier(expires, lastExpiry) }

func encode(r tokencache.Record, key string) map[string]any {
	b := make([]byte, 0, minSize+len(r.Sealed))
	b = append(b, format)
	b = append(b, r.Version[:]...)
	var expires uint64
	if !r.Expires.IsZero() {
		expires = uint64(r.Expires.UnixMilli()) // #nosec G115 -- read back as it was
	}
	b = binary.BigEndian.AppendUint64(b, expires)
	b = append(b, r.Sealed...)
	return map[string]any{key: base64.RawURLEncoding.EncodeToString(b)}
}

// decode reads the values of a session. What this package has not written is no
// tombstone and not absent: it is something without a version that does not open,
// which the next sign-in replaces.
func decode(values map[string]any, key string) tokencache.Record {
	foreign := tokencache.Record{Sealed: []byte{0}}
	text, ok := values[key].(string)
	if !ok || len(values) != 1 || strings.ContainsAny(text, "\r\n") { // which base64 skips
		return foreign
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < minSize || len(b) > minSize+tokencache.MaxSealedSize || b[0] != format {
		return foreign
	}
	r := tokencache.Record{Version: tokencache.Version(b[1:headSize])}
	if r.Version == (tokencache.Version{}) {
		return foreign
	}
	if ms := binary.BigEndian.Uint64(b[headSize:minSize]); ms != 0 {
		r.Expires = time.UnixMilli(int64(ms)) // #nosec G115 -- written from an int64
	}
	if len(b) > minSize {
		r.Sealed = b[minSize:]
	}
	return r
}

// recordKey is the name of the only value of a record.
func (p *Provider) recordKey() string { return p.key + ".record" }

// IsRecord tells whether the context, which the manager's Iterate calls its function
// with, is that of a record of tokens and not of a session:
//
//	err := sessions.Iterate(ctx, func(ctx context.Context) error {
//		if provider.IsRecord(ctx) {
//			return nil
//		}
//		…
//	})
//
// Destroying one is losing the tokens of a session.
func (p *Provider) IsRecord(ctx context.Context) bool {
	return p.within(ctx) && p.manager.Exists(ctx, p.recordKey())
}

// reference returns the session of the ticket, "" if its tokens are not apart: the
// fourth part of the text that [tokencache.Ticket.Encode] describes.
func reference(t tokencache.Ticket) string {
	parts := strings.Split(t.Encode(), ".")
	if len(parts) != 4 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[3])
	if err != nil {
		return ""
	}
	return string(text)
}
