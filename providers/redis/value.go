package redis

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A record is stored as one string:
//
//	 1 byte   format, 1
//	16 bytes  version
//	 8 bytes  expiry in milliseconds since 1970, big-endian; 0 for never
//	          sealed bytes; none for a tombstone
//
// The format and the version are the head, which scripts compare. The expiry is
// what the writer asked for; the key's own, which the server keeps, decides.
const (
	format    = 1
	headSize  = 1 + len(tokencache.Version{})
	emptySize = headSize + 8
	maxSize   = emptySize + tokencache.MaxSealedSize
)

// head returns the beginning of the value of a version.
func head(v tokencache.Version) []byte {
	return append([]byte{format}, v[:]...)
}

func encodeExpiry(expires time.Time) []byte {
	if expires.IsZero() {
		return make([]byte, 8)
	}
	return binary.BigEndian.AppendUint64(nil, uint64(expires.UnixMilli()))
}

func encode(r *tokencache.Record) []byte {
	b := make([]byte, 0, emptySize+len(r.Sealed))
	b = append(b, format)
	b = append(b, r.Version[:]...)
	b = append(b, encodeExpiry(r.Expires)...)
	return append(b, r.Sealed...)
}

// decode reads a value that is not empty. One that this package has not written
// is no tombstone and not absent: it is something without a version that does not
// open, which the next sign-in replaces.
func decode(b []byte) tokencache.Record {
	if len(b) < emptySize || b[0] != format {
		return tokencache.Record{Sealed: b}
	}
	r := tokencache.Record{Version: tokencache.Version(b[1:headSize])}
	if ms := binary.BigEndian.Uint64(b[headSize:emptySize]); ms != 0 {
		r.Expires = time.UnixMilli(int64(ms)) //nolint:gosec // encoded from an int64
	}
	if len(b) > emptySize {
		r.Sealed = b[emptySize:]
	}
	return r
}

// keys are the names in Redis of what belongs to a partition. The owner is the
// hash tag, so that all of them are in one slot of a Cluster.
type keys struct{ record, mark, index, lease string }

func (p *Provider) keysOf(n tokencache.Name) keys {
	o := p.ownerKeys(n.Owner)
	o.record = o.index[:len(o.index)-1] + "r:" + n.Partition
	o.lease = o.index[:len(o.index)-1] + "l:" + n.Partition
	return o
}

// readKeys are those that a load reads.
func (p *Provider) readKeys(n tokencache.Name) (record, mark string) {
	tag := "{" + n.Owner + "}:"
	return p.prefix + tag + "r:" + n.Partition, p.prefix + tag + "m"
}

// staged is where the value of a save waits for its script. Each save has its own.
func (k *keys) staged(v tokencache.Version) string {
	return k.index[:len(k.index)-1] + "s:" + v.String()
}

// ownerKeys are those that all partitions of an owner share.
func (p *Provider) ownerKeys(owner string) keys {
	base := p.prefix + "{" + owner + "}:"
	return keys{mark: base + "m", index: base + "i"}
}

// A change is told as the version, the owner, a colon, the partition, a colon, and
// the head that was replaced, which the script adds.
func encodeChange(n tokencache.Name, v tokencache.Version) string {
	return string(v[:]) + n.Owner + ":" + n.Partition + ":"
}

func decodeChange(s string) (c tokencache.Change, ok bool) {
	if len(s) < len(c.Version) {
		return c, false
	}
	var rest string
	copy(c.Version[:], s)
	c.Name.Owner, rest, ok = strings.Cut(s[len(c.Version):], ":")
	if !ok {
		return c, false
	}
	c.Name.Partition, rest, ok = strings.Cut(rest, ":")
	if len(rest) == headSize && rest[0] == format {
		copy(c.Replaced[:], rest[1:])
	}
	return c, ok
}
