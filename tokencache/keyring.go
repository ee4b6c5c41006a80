package tokencache

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// AEAD encrypts and decrypts with associated data. It has the shape of tink's
// AEAD, so that a tink keyset or a KMS envelope fits. It is safe for
// concurrent use. One that asks a remote service sets a timeout: whoever waits
// for it is a user.
type AEAD interface {
	// Encrypt returns the ciphertext of plaintext, bound to associatedData. An
	// error that wraps [ErrUnavailable] is tried again for a while; any other is
	// reported as ErrUnavailable.
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	// Decrypt returns the plaintext, or an error if any byte of the ciphertext
	// or of associatedData differs from what Encrypt saw. An implementation that
	// asks a remote service and gets no answer wraps [ErrUnavailable], so that
	// nobody is signed out because of it.
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// Keys protect what leaves the process.
type Keys struct {
	// Names is the 32-byte key of the HMAC that makes storage names. It is not
	// rotated with the encryption keys: another key finds none of the stored
	// partitions, and every user signs in again.
	Names []byte
	// Seal encrypts partitions; usually a [KeyRing].
	Seal AEAD
}

func (k *Keys) check() error {
	ring, ok := k.Seal.(*KeyRing)
	if k.Seal == nil || ok && (ring == nil || len(ring.keys) == 0) {
		return errors.New("tokencache: Keys.Seal is empty: set it to the KeyRing of NewKeyRing, or another AEAD")
	}
	if err := checkKey(k.Names); err != nil {
		return fmt.Errorf("tokencache: Keys.Names: %w", err)
	}
	if !ok {
		return nil
	}
	id := ringKeyID(k.Names)
	if same := ring.find(id[:]); same != nil && hmac.Equal(same.secret, k.Names) {
		return errors.New("tokencache: Keys.Names is a key of the ring too: draw another one")
	}
	return nil
}

// KeyRing is an [AEAD] with several keys: the first encrypts, all decrypt. Make
// one with [NewKeyRing], or read one with [LoadKeys]. It does not change, and is
// safe for concurrent use.
//
// To rotate, give every machine a ring with the new key in the second place, and
// then one with it in the first. Drop the old key when [Options.AbsoluteTimeout]
// has passed. To revoke a key, drop it at once and list its ID as revoked in the
// key set ([LoadKeys]): what it sealed is [ErrUnreadable] then.
//
// Each ciphertext is made with AES-256-GCM under a key of its own, derived from
// the ring's key and a random salt, so that no number of writes wears a key out:
// by the expansion of HKDF-SHA256 (RFC 5869 §2.3) with the info "coatcheck seal 1"
// and the salt behind it. The ring's keys are random, so that there is nothing to
// extract (RFC 5869 §3.3). The layout is
//
//	byte 0      format, 1
//	byte 1      algorithm, 1: HKDF-Expand-SHA256 and AES-256-GCM
//	bytes 2-5   ID of the key
//	bytes 6-21  salt
//	bytes 22-33 nonce
//	the rest    ciphertext and its 16-byte tag
//
// and the first 22 bytes are authenticated along with the associated data.
type KeyRing struct {
	keys    []ringKey
	revoked []sealKeyID
}

type ringKey struct {
	id     sealKeyID
	secret []byte
	macs   *macs // under secret
}

func newRingKey(secret []byte) ringKey {
	return ringKey{id: ringKeyID(secret), secret: bytes.Clone(secret), macs: newMACs(secret)}
}

// sealKeyID names a key without telling anything about it.
type sealKeyID [4]byte

const (
	ringFormat    = 1
	ringAlgorithm = 1
	ringSaltAt    = 6
	ringHeader    = ringSaltAt + 16
	ringInfo      = "coatcheck seal 1"
)

// NewKeyRing returns a ring of 32-byte keys, the first of which encrypts. Refused
// are keys of another length, keys that were evidently not drawn at random (text,
// repeated or counted bytes, published samples), and the same key twice.
func NewKeyRing(keys ...[]byte) (*KeyRing, error) {
	r, err := makeRing(keys, nil)
	if err != nil {
		return nil, fmt.Errorf("tokencache: %w", err)
	}
	return r, nil
}

func makeRing(keys [][]byte, revoked []sealKeyID) (*KeyRing, error) {
	if len(keys) == 0 {
		return nil, errors.New("a key ring needs a key")
	}
	r := &KeyRing{revoked: revoked}
	for i, k := range keys {
		if err := checkKey(k); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		key := newRingKey(k)
		id := key.id
		switch {
		case r.find(id[:]) != nil:
			return nil, fmt.Errorf("key %d is in the ring already", i+1)
		case r.isRevoked(id[:]): // an old key set that was brought back, or the wrong ID
			return nil, fmt.Errorf("key %d, of the ID %x, is revoked: drop the key", i+1, id)
		}
		r.keys = append(r.keys, key)
	}
	return r, nil
}

// IDs returns the IDs of the keys, in the order of the ring: for logs, and for
// the list of revoked keys in a key set ([LoadKeys]). An ID is the first 4 bytes
// of the HMAC-SHA256, under the key, of "coatcheck key id 1", in 8 lower-case
// hexadecimal digits. It tells nothing about the key.
func (r *KeyRing) IDs() []string {
	ids := make([]string, len(r.keys))
	for i := range r.keys {
		ids[i] = hex.EncodeToString(r.keys[i].id[:])
	}
	return ids
}

func ringKeyID(key []byte) (id sealKeyID) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("coatcheck key id 1"))
	copy(id[:], h.Sum(nil))
	return id
}

func (r *KeyRing) find(id []byte) *ringKey {
	for i := range r.keys {
		if string(r.keys[i].id[:]) == string(id) {
			return &r.keys[i]
		}
	}
	return nil
}

func (r *KeyRing) isRevoked(id []byte) bool {
	return slices.ContainsFunc(r.revoked, func(other sealKeyID) bool { return string(other[:]) == string(id) })
}

// outdated tells whether the ciphertext was made with another key than the one
// that encrypts now, so that it should be encrypted anew.
func (r *KeyRing) outdated(ciphertext []byte) bool {
	return isRingFormat(ciphertext) && string(ciphertext[2:ringSaltAt]) != string(r.keys[0].id[:])
}

func isRingFormat(ciphertext []byte) bool {
	return len(ciphertext) >= ringHeader && ciphertext[0] == ringFormat && ciphertext[1] == ringAlgorithm
}

// Encrypt encrypts with the first key of the ring.
func (r *KeyRing) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	out := make([]byte, ringHeader, ringHeader+12+len(plaintext)+16)
	out[0], out[1] = ringFormat, ringAlgorithm
	copy(out[2:], r.keys[0].id[:])
	_, _ = rand.Read(out[ringSaltAt:]) // never fails (crypto/rand, Go 1.24)
	gcm, err := r.keys[0].cipher(out[ringSaltAt:])
	if err != nil {
		return nil, err
	}
	return gcm.Seal(out, nil, plaintext, ringData(out, associatedData)), nil // #nosec G407 -- this AEAD draws its nonce itself
}

// ringError tells why a ciphertext does not open.
type ringError struct {
	reason string // a constant of unreadable.go
	key    string // the ID of the key that it names, if that is the reason
}

func (e *ringError) Error() string {
	return strings.TrimRight("tokencache: the ciphertext does not open: "+e.reason+" "+e.key, " ")
}

// Unwrap returns ErrUnreadable.
func (*ringError) Unwrap() error { return ErrUnreadable }

// Decrypt decrypts with the key that the ciphertext names. Its error is
// [ErrUnreadable].
func (r *KeyRing) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return r.decrypt(ciphertext, ringData(ringHead(ciphertext), associatedData), false)
}

// decrypt takes what is authenticated as a whole. It decrypts in place if the
// ciphertext is given away, which is overwritten then, also if it does not open.
func (r *KeyRing) decrypt(ciphertext, data []byte, inPlace bool) ([]byte, error) {
	if !isRingFormat(ciphertext) {
		return nil, &ringError{reason: reasonFormat}
	}
	id := ciphertext[2:ringSaltAt]
	key := r.find(id)
	switch {
	case r.isRevoked(id):
		return nil, &ringError{reason: reasonRevokedKey, key: hex.EncodeToString(id)}
	case key == nil:
		return nil, &ringError{reason: reasonUnknownKey, key: hex.EncodeToString(id)}
	}
	body := ciphertext[ringHeader:]
	gcm, err := key.cipher(ciphertext[ringSaltAt:ringHeader])
	if err != nil {
		return nil, err
	}
	var room []byte
	if inPlace {
		room = body[:0]
	}
	plain, err := gcm.Open(room, nil, body, data)
	if err != nil {
		return nil, &ringError{reason: reasonAltered}
	}
	return plain, nil
}

// cipher returns the cipher of a salt. Up to the length of a hash, the expansion is
// a single HMAC, of the info and the number 1.
func (k *ringKey) cipher(salt []byte) (cipher.AEAD, error) {
	h := k.macs.lend()
	defer k.macs.back(h)
	info := append(append(h.room[:0], ringInfo...), salt...)
	block, err := aes.NewCipher(h.sum(append(info, 1)))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// ringHead is what a ciphertext begins with, less if it is too short to be one.
func ringHead(ciphertext []byte) []byte { return ciphertext[:min(len(ciphertext), ringHeader)] }

func ringData(header, associatedData []byte) []byte {
	return append(append(make([]byte, 0, len(header)+len(associatedData)), header...), associatedData...)
}
