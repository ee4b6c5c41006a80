package file

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The bytes of a file:
//
//	bytes 0-7    "coatfile"
//	byte 8       format, 1
//	byte 9       protection: 0 none, 1 a key of the operating system's store, 2 a passphrase
//	bytes 10-25  tag, drawn at random with each change: other processes see by it that
//	             there was one
//	bytes 26-50  with a passphrase, the parameters of Argon2id (RFC 9106 §3.1): 16 bytes
//	             of salt, passes and memory in KiB of 4 bytes each with the highest
//	             first, and one of lanes
//	32 bytes     SHA-256 of everything else, which tells damage from a key that is not here
//	the rest     the document (document.go), without protection as it is, otherwise
//	             sealed by a [tokencache.KeyRing] with the above but the hash as
//	             associated data
const (
	magic      = "coatfile"
	format     = 1
	headerSize = 26
	saltSize   = 16
	paramsSize = saltSize + 9
	sealedHead = 6 // of a KeyRing's ciphertext: format, algorithm, and the key's ID

	maxFile    = 64 << 20 // bytes of a file that is read
	maxContent = 32 << 20 // bytes of a document that may grow
)

type protection byte

const (
	protectedNot      protection = 0
	protectedByStore  protection = 1
	protectedByPhrase protection = 2
)

// tag tells one state of a file from every other one.
type tag [16]byte

// header is what stands before the document.
type header struct {
	by     protection
	tag    tag
	params params // of a passphrase
}

// params are those of Argon2id.
type params struct {
	salt         [saltSize]byte
	passes, kibi uint32
	lanes        uint8
}

func (h *header) encode() []byte {
	b := append([]byte(magic), format, byte(h.by))
	b = append(b, h.tag[:]...)
	if h.by == protectedByPhrase {
		b = append(b, h.params.salt[:]...)
		b = binary.BigEndian.AppendUint32(b, h.params.passes)
		b = binary.BigEndian.AppendUint32(b, h.params.kibi)
		b = append(b, h.params.lanes)
	}
	return b
}

// parse splits the bytes of a file, and tells whether they are all there. The error is
// errDamaged or errNewer.
func parse(b []byte) (h header, body []byte, err error) {
	switch {
	case len(b) < headerSize || len(b) > maxFile || string(b[:len(magic)]) != magic:
		return h, nil, errDamaged
	case b[8] > format:
		return h, nil, errNewer
	case b[8] != format || protection(b[9]) > protectedByPhrase:
		return h, nil, errDamaged
	}
	h.by, h.tag, body = protection(b[9]), tag(b[10:headerSize]), b[headerSize:]
	if h.by == protectedByPhrase {
		if len(body) < paramsSize {
			return h, nil, errDamaged
		}
		h.params, body = parseParams(body), body[paramsSize:]
	}
	if len(body) < sha256.Size || h.by != protectedNot && len(body) < sha256.Size+sealedHead {
		return h, nil, errDamaged
	}
	sum, body := body[:sha256.Size], body[sha256.Size:]
	if found := checksum(h.encode(), body); !bytes.Equal(found[:], sum) || !h.params.bearable(h.by) {
		return h, nil, errDamaged
	}
	return h, body, nil
}

func parseParams(b []byte) params {
	return params{
		salt:   [saltSize]byte(b),
		passes: binary.BigEndian.Uint32(b[saltSize:]),
		kibi:   binary.BigEndian.Uint32(b[saltSize+4:]),
		lanes:  b[saltSize+8],
	}
}

// bearable tells whether the parameters neither keep a reader at work for long nor take
// much memory.
func (p *params) bearable(by protection) bool {
	return by != protectedByPhrase ||
		p.passes >= 1 && p.passes <= 16 && p.kibi >= 8<<10 && p.kibi <= 256<<10 && p.lanes >= 1 && p.lanes <= 16
}

func checksum(head, body []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(head)
	h.Write(body)
	return [sha256.Size]byte(h.Sum(nil))
}

// keyID is the ID of the key that sealed the body, as [tokencache.KeyRing.IDs] has it.
func keyID(body []byte) string { return hex.EncodeToString(body[2:sealedHead]) }

// seal returns the bytes of a file, with a new tag in its header. A nil ring is no
// protection.
func seal(h *header, d *document, ring *tokencache.KeyRing) ([]byte, error) {
	_, _ = rand.Read(h.tag[:]) // never fails (crypto/rand, Go 1.24)
	head := h.encode()
	body := d.encode()
	if ring != nil {
		var err error
		if body, err = ring.Encrypt(body, head); err != nil {
			return nil, err
		}
	}
	sum := checksum(head, body)
	return append(append(head, sum[:]...), body...), nil
}

// unseal returns the document of a body; ring is the one that sealed it, nil for none.
// The error is errDamaged.
func unseal(h *header, body []byte, ring *tokencache.KeyRing) (*document, error) {
	if ring != nil {
		var err error
		if body, err = ring.Decrypt(body, h.encode()); err != nil {
			return nil, errDamaged
		}
	}
	return decodeDocument(body)
}
