package legacy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// adalVersion is the first number of the ADAL v3 format.
const adalVersion = 3

var (
	errShort  = errors.New("is cut off")
	errLength = errors.New("has a length that is no number of the format")
	errUTF8   = errors.New("is not UTF-8")
)

// binaryReader reads what .NET's BinaryWriter has written.
type binaryReader struct{ b []byte }

func (r *binaryReader) int32() (int32, error) {
	if len(r.b) < 4 {
		return 0, errShort
	}
	n := int32(binary.LittleEndian.Uint32(r.b)) // #nosec G115 -- it is signed there
	r.b = r.b[4:]
	return n, nil
}

// string reads a length, 7 bits in a byte from the lowest on, and so many bytes.
func (r *binaryReader) string() (string, error) {
	n := uint64(0)
	for i := 0; ; i++ {
		switch {
		case i == 5:
			return "", errLength
		case i >= len(r.b):
			return "", errShort
		}
		n |= uint64(r.b[i]&0x7f) << (7 * i)
		if r.b[i] < 0x80 {
			r.b = r.b[i+1:]
			break
		}
	}
	if n > uint64(len(r.b)) {
		return "", errShort
	}
	s := r.b[:n]
	r.b = r.b[n:]
	if !utf8.Valid(s) {
		return "", errUTF8
	}
	return string(s), nil
}

// pair is the key and the value of an entry.
type pair struct{ key, value string }

// readPairs reads all entries. Nothing is allocated on the word of a number in b.
func readPairs(b []byte) ([]pair, error) {
	r := &binaryReader{b: b}
	if version, err := r.int32(); err != nil || version != adalVersion {
		return nil, errors.New("the version is another")
	}
	count, err := r.int32()
	switch {
	case err != nil:
		return nil, fmt.Errorf("the number of entries %w", err)
	case count < 0 || int(count) > len(r.b)/2: // a string has a byte at least
		return nil, errors.New("there is no room for so many entries")
	}
	var pairs []pair
	for i := range count {
		var p pair
		if p.key, err = r.string(); err != nil {
			return nil, fmt.Errorf("the key of entry %d %w", i, err)
		}
		if p.value, err = r.string(); err != nil {
			return nil, fmt.Errorf("the value of entry %d %w", i, err)
		}
		pairs = append(pairs, p)
	}
	if len(r.b) > 0 {
		return nil, errors.New("something follows the last entry")
	}
	return pairs, nil
}

// appendPairs appends what readPairs reads.
func appendPairs(b []byte, pairs []pair) []byte {
	b = binary.LittleEndian.AppendUint32(b, adalVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(pairs))) // #nosec G115 -- of tokens in memory
	for _, p := range pairs {
		b = append(binary.AppendUvarint(b, uint64(len(p.key))), p.key...)
		b = append(binary.AppendUvarint(b, uint64(len(p.value))), p.value...)
	}
	return b
}
