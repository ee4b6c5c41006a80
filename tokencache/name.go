package tokencache

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"sync"
)

// Namespace separates the partitions of one client at one authorization server
// from all others in the same store.
type Namespace struct {
	// Issuer is the authorization server's issuer identifier (RFC 8414 §2).
	// Required.
	Issuer string
	// ClientID is the application's client ID there. Required.
	ClientID string
	// Tenant separates one tenant's partitions from those of others that use the
	// same issuer and client; empty is absent.
	Tenant string
}

func (n Namespace) check() error {
	if n.Issuer == "" || n.ClientID == "" {
		return errors.New("tokencache: the namespace needs an issuer and a client ID")
	}
	return nil
}

// nameScheme is the first part of every MAC. Changing it, or anything else in
// this file, makes every stored partition unfindable.
const nameScheme = "coatcheck name 1"

// namer turns keys into storage names. Every part is length-prefixed, so that
// no two lists of parts are the same bytes.
type namer struct {
	ns   Namespace
	macs *sync.Pool // of HMACs under the name key: to set one up takes as long as to use it
}

// newNamer copies the key: the pool sets HMACs up at any time, and whoever gave the
// key may wipe it.
func newNamer(key []byte, ns Namespace) namer {
	key = bytes.Clone(key)
	return namer{ns: ns, macs: &sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

func (n namer) name(k keyID) (Name, error) {
	if err := k.check(); err != nil {
		return Name{}, err
	}
	return Name{Owner: n.owner(k), Partition: n.partition(k)}, nil
}

// owner depends on the account alone, whatever the kind of the key, so that
// everything of one account is found together.
func (n namer) owner(k keyID) string {
	b := n.begin(make([]byte, 0, nameRoom), "owner")
	return n.mac(appendOptional(b, k.account)) // absent: the application
}

func (n namer) partition(k keyID) string {
	b := n.begin(make([]byte, 0, nameRoom), "partition")
	b = append(b, byte(k.kind))
	b = appendOptional(b, k.account)
	b = appendOptional(b, k.tenant)
	return n.mac(appendOptional(b, k.part))
}

// nameRoom is nearly always enough for what is hashed, on the stack.
const nameRoom = 384

// begin appends what all names in a role begin with.
func (n namer) begin(b []byte, role string) []byte {
	b = appendPart(b, nameScheme)
	b = appendPart(b, role)
	b = appendPart(b, n.ns.Issuer)
	b = appendPart(b, n.ns.ClientID)
	return appendOptional(b, n.ns.Tenant)
}

func (n namer) mac(b []byte) string {
	h := n.macs.Get().(hash.Hash) // put there above
	defer n.macs.Put(h)
	h.Reset()
	h.Write(b)
	var sum [sha256.Size]byte
	return base64.RawURLEncoding.EncodeToString(h.Sum(sum[:0]))
}

// appendPart appends a part behind its length.
func appendPart(b []byte, part string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(part))) // #nosec G115 -- no part is 4 GiB long
	return append(b, part...)
}

// appendOptional appends a part that may be absent; no length is that long, so
// that absent is unlike every part.
func appendOptional(b []byte, part string) []byte {
	if part == "" {
		return binary.BigEndian.AppendUint32(b, 1<<32-1)
	}
	return appendPart(b, part)
}
