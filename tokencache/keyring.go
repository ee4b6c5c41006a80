package tokencache

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// AEAD encrypts and decrypts with associated data. It has the shape of tink's
// AEAD, so that a tink keyset or a KMS envelope fits. It is safe for
// concurrent use.
type AEAD interface {
	// Encrypt returns the ciphertext of plaintext, bound to associatedData. An
	// error that wraps [ErrUnavailable] is tried again for a while.
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
	if ring, ok := k.Seal.(*KeyRing); k.Seal == nil || ok && (ring == nil || len(ring.keys) == 0) {
		return errors.New("tokencache: Keys.Seal is empty: set it to the KeyRing of NewKeyRing, or another AEAD")
	}
	if err := checkKey(k.Names); err != nil {
		return fmt.Errorf("tokencache: Keys.Names: %w", err)
	}
	return nil
}

// KeySize is the size of every key, in bytes.
const KeySize = 32

// KeyRing is an [AEAD] with several keys: the first encrypts, all decrypt. Make
// one with [NewKeyRing]. To rotate, give every machine a ring with the new key in
// the second place, and then one with it in the first. Drop the old key when
// [Options.AbsoluteTimeout] has passed.
//
// Each ciphertext is made with AES-256-GCM under a key of its own, derived with
// HKDF-SHA256 from the ring's key and a random salt, so that no number of
// writes wears a key out. The layout is
//
//	byte 0      format, 1
//	byte 1      algorithm, 1: HKDF-SHA256 and AES-256-GCM
//	bytes 2-5   ID of the key
//	bytes 6-21  salt
//	bytes 22-33 nonce
//	the rest    ciphertext and its 16-byte tag
//
// and the first 22 bytes are authenticated along with the associated data.
type KeyRing struct {
	keys []ringKey
}

type ringKey struct {
	id     [4]byte
	secret []byte
}

const (
	ringFormat    = 1
	ringAlgorithm = 1
	ringSaltAt    = 6
	ringHeader    = ringSaltAt + 16
	ringInfo      = "coatcheck seal 1"
)

// NewKeyRing returns a ring of 32-byte keys, the first of which encrypts. Keys
// that are short, all one byte or twice in the ring are refused.
func NewKeyRing(keys ...[]byte) (*KeyRing, error) {
	if len(keys) == 0 {
		return nil, errors.New("tokencache: a key ring needs a key")
	}
	r := &KeyRing{}
	for i, k := range keys {
		if err := checkKey(k); err != nil {
			return nil, fmt.Errorf("tokencache: key %d: %w", i+1, err)
		}
		rk := ringKey{id: ringKeyID(k), secret: append([]byte(nil), k...)}
		if r.find(rk.id[:]) != nil {
			return nil, fmt.Errorf("tokencache: key %d is in the ring already", i+1)
		}
		r.keys = append(r.keys, rk)
	}
	return r, nil
}

func checkKey(k []byte) error {
	if len(k) != KeySize {
		return fmt.Errorf("a key has %d bytes, this one %d", KeySize, len(k))
	}
	for _, b := range k {
		if b != k[0] {
			return nil
		}
	}
	return errors.New("the key is one byte repeated: draw it at random")
}

// ringKeyID names a key without telling anything about it.
func ringKeyID(key []byte) (id [4]byte) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("coatcheck key id 1"))
	copy(id[:], h.Sum(nil))
	return id
}

func (r *KeyRing) find(id []byte) []byte {
	for i := range r.keys {
		if string(r.keys[i].id[:]) == string(id) {
			return r.keys[i].secret
		}
	}
	return nil
}

// Encrypt encrypts with the first key of the ring.
func (r *KeyRing) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	out := make([]byte, ringHeader, ringHeader+12+len(plaintext)+16)
	out[0], out[1] = ringFormat, ringAlgorithm
	copy(out[2:], r.keys[0].id[:])
	_, _ = rand.Read(out[ringSaltAt:]) // never fails (crypto/rand, Go 1.24)
	gcm, err := ringCipher(r.keys[0].secret, out[ringSaltAt:])
	if err != nil {
		return nil, err
	}
	return gcm.Seal(out, nil, plaintext, ringData(out, associatedData)), nil // #nosec G407 -- this AEAD draws its nonce itself
}

var errOpen = errors.New("tokencache: the ciphertext does not open")

// Decrypt decrypts with the key that the ciphertext names.
func (r *KeyRing) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	if len(ciphertext) < ringHeader || ciphertext[0] != ringFormat || ciphertext[1] != ringAlgorithm {
		return nil, errOpen
	}
	secret := r.find(ciphertext[2:ringSaltAt])
	if secret == nil {
		return nil, errors.New("tokencache: the ciphertext was made with a key that is not in the ring")
	}
	header, body := ciphertext[:ringHeader], ciphertext[ringHeader:]
	gcm, err := ringCipher(secret, header[ringSaltAt:])
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(nil, nil, body, ringData(header, associatedData))
	if err != nil {
		return nil, errOpen
	}
	return plain, nil
}

func ringCipher(secret, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, salt, ringInfo, KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func ringData(header, associatedData []byte) []byte {
	return append(append(make([]byte, 0, len(header)+len(associatedData)), header...), associatedData...)
}
