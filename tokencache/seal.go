package tokencache

import (
	"errors"
	"fmt"
)

// The envelope of Record.Sealed:
//
//	bytes 0-1  "CC"
//	byte 2     format, 1
//	byte 3     protection: 0 none, 1 AEAD
//	the rest   the plaintext of a partition (index.go), or its ciphertext
//
// The associated data is the four bytes above, the namespace, the name and the
// record's version. A blob under another name, in another namespace or under
// another version does not open: the version keeps someone who can write to the
// backend from passing an old blob off as a new save.
const (
	envelopeFormat  = 1
	envelopeHeader  = 4
	protectionNone  = 0
	protectionAEAD  = 1
	associatedLabel = "coatcheck partition 1"
)

// sealer seals and opens partitions. A nil aead stores plaintext.
type sealer struct {
	aead AEAD
	ns   Namespace
}

func (s *sealer) protection() byte {
	if s.aead == nil {
		return protectionNone
	}
	return protectionAEAD
}

func (s *sealer) seal(name Name, v Version, plain []byte) ([]byte, error) {
	header := []byte{'C', 'C', envelopeFormat, s.protection()}
	if s.aead == nil {
		return append(header, plain...), nil
	}
	body, err := s.aead.Encrypt(plain, s.associated(nil, header, name, v))
	if err != nil {
		return nil, fmt.Errorf("tokencache: seal: %w", err)
	}
	return append(header, body...), nil
}

// open returns the plaintext, and keeps the record's bytes or overwrites them: the
// caller gives them away. A plaintext record is refused where there are
// keys: accepting it would let anyone who writes to the backend plant one. The
// error is an [*unreadableError], or wraps [ErrUnavailable].
func (s *sealer) open(name Name, r Record) ([]byte, error) {
	b := r.Sealed
	if len(b) < envelopeHeader || b[0] != 'C' || b[1] != 'C' || b[2] != envelopeFormat || b[3] > protectionAEAD {
		return nil, &unreadableError{reason: reasonFormat}
	}
	switch {
	case b[3] == protectionNone && s.aead != nil:
		return nil, &unreadableError{reason: reasonPlaintext}
	case b[3] == protectionAEAD && s.aead == nil:
		return nil, &unreadableError{reason: reasonSealed}
	case s.aead == nil:
		return b[envelopeHeader:], nil
	}
	plain, err := s.decrypt(b[:envelopeHeader], b[envelopeHeader:], name, r.Version)
	switch {
	case errors.Is(err, ErrUnavailable):
		return nil, err
	case err != nil:
		return nil, whyUnreadable(err)
	}
	return plain, nil
}

// decrypt decrypts in place where it can, so that a load does not need the memory
// of its record twice.
func (s *sealer) decrypt(header, body []byte, name Name, v Version) ([]byte, error) {
	if ring, ok := s.aead.(*KeyRing); ok {
		return ring.decrypt(body, s.associated(ringHead(body), header, name, v), true)
	}
	return s.aead.Decrypt(body, s.associated(nil, header, name, v))
}

// outdated tells whether a record was sealed with another key than the one that
// seals now. It never is where a foreign AEAD or nothing seals.
func (s *sealer) outdated(sealed []byte) bool {
	ring, ok := s.aead.(*KeyRing)
	return ok && len(sealed) > envelopeHeader && sealed[3] == protectionAEAD && ring.outdated(sealed[envelopeHeader:])
}

// associated returns the associated data, behind what goes before it.
func (s *sealer) associated(before, header []byte, name Name, v Version) []byte {
	b := append(make([]byte, 0, 320), before...)
	b = appendPart(b, associatedLabel)
	b = append(b, header...)
	b = appendPart(b, s.ns.Issuer)
	b = appendPart(b, s.ns.ClientID)
	b = appendOptional(b, s.ns.Tenant)
	b = appendPart(b, name.Owner)
	b = appendPart(b, name.Partition)
	return append(b, v[:]...)
}
