package tokencache

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
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
	macs *macs
}

func newNamer(key []byte, ns Namespace) namer { return namer{ns: ns, macs: newMACs(key)} }

func (n namer) name(k keyID) (Name, error) {
	if err := k.check(); err != nil {
		return Name{}, err
	}
	return n.names(k), nil
}

func (n namer) names(k keyID) Name {
	h := n.macs.lend()
	defer n.macs.back(h)
	return Name{Owner: n.owner(h, k), Partition: n.partition(h, k)}
}

// owner depends on the account alone, whatever the kind of the key, so that
// everything of one account is found together. A session at the authorization server
// owns itself: it has one name for both.
func (n namer) owner(h *mac, k keyID) string {
	if k.kind == kindSID {
		return n.partition(h, k)
	}
	b := n.begin(h.room[:0], "owner")
	return text(h.sum(appendOptional(b, k.account))) // absent: the application
}

func (n namer) partition(h *mac, k keyID) string {
	b := n.begin(h.room[:0], "partition")
	b = append(b, byte(k.kind))
	b = appendOptional(b, k.account)
	b = appendOptional(b, k.tenant)
	return text(h.sum(appendOptional(b, k.part)))
}

// begin appends what all names in a role begin with.
func (n namer) begin(b []byte, role string) []byte {
	b = appendPart(b, nameScheme)
	b = appendPart(b, role)
	b = appendPart(b, n.ns.Issuer)
	b = appendPart(b, n.ns.ClientID)
	return appendOptional(b, n.ns.Tenant)
}

func text(sum []byte) string {
	var b [43]byte
	base64.RawURLEncoding.Encode(b[:], sum)
	return string(b[:])
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
