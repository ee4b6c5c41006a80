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
	key []byte
	ns  Namespace
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
	return n.mac("owner", func(b []byte) []byte {
		return appendOptional(b, k.account) // absent: the application
	})
}

func (n namer) partition(k keyID) string {
	return n.mac("partition", func(b []byte) []byte {
		b = append(b, byte(k.kind))
		b = appendOptional(b, k.account)
		b = appendOptional(b, k.tenant)
		return appendOptional(b, k.part)
	})
}

func (n namer) mac(role string, parts func([]byte) []byte) string {
	b := make([]byte, 0, 256)
	b = appendPart(b, nameScheme)
	b = appendPart(b, role)
	b = appendPart(b, n.ns.Issuer)
	b = appendPart(b, n.ns.ClientID)
	b = appendOptional(b, n.ns.Tenant)
	b = parts(b)
	sum := hmacSHA256(n.key, b)
	return base64.RawURLEncoding.EncodeToString(sum[:])
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
