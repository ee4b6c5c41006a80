package tokencache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// KeySize is the size of every key, in bytes.
const KeySize = 32

// checkKey refuses what was evidently not drawn at random. It refuses less than
// one random key in 2^43. Its errors show nothing of the key.
func checkKey(k []byte) error {
	text := isText(k)
	switch {
	case len(k) != KeySize && text:
		return fmt.Errorf("a key has %d bytes, this one %d, and they are text: decode base64 or hexadecimal first", KeySize, len(k))
	case len(k) != KeySize:
		return fmt.Errorf("a key has %d bytes, this one %d", KeySize, len(k))
	case text:
		return errors.New("the key is text: draw 32 bytes at random, and decode base64 or hexadecimal first")
	case distinct(k) <= KeySize/2:
		return errors.New("the key repeats its bytes: draw it at random")
	case isProgression(k):
		return errors.New("the key counts: draw it at random")
	case isPublished(k):
		return errors.New("the key is published: draw one at random")
	}
	return nil
}

// isText tells whether k is printable ASCII and white space: a pass phrase, or
// a key that was not decoded. Of random keys, one in 2^44 is.
func isText(k []byte) bool {
	return len(k) > 0 && !slices.ContainsFunc(k, func(b byte) bool {
		return (b < ' ' || b > '~') && b != '\t' && b != '\n' && b != '\r'
	})
}

// distinct counts the different bytes. Random keys have about 30; one in 2^45
// has 16 or fewer. One byte, or up to 16, repeated do.
func distinct(k []byte) (n int) {
	var seen [256]bool
	for _, b := range k {
		if !seen[b] {
			seen[b] = true
			n++
		}
	}
	return n
}

// isProgression tells whether each byte differs from the one before by the same
// amount, as in 00 01 02 and so on.
func isProgression(k []byte) bool {
	for i := 2; i < len(k); i++ {
		if k[i]-k[i-1] != k[1]-k[0] {
			return false
		}
	}
	return true
}

// publishedKeys are the SHA-256 of keys that anybody can look up and that pass
// the other checks.
var publishedKeys = []string{
	"71eded8e1558c1666ac751af2668e8876336bda609f524609d26a49c71f06d17", // names storage where there are no Keys
	"b93c72b74bc8487d29827005f80d635918f91bc22b14d7ed05714d58f96702dd", // the AES-256 key of NIST SP 800-38A
}

func isPublished(k []byte) bool {
	sum := sha256.Sum256(k)
	return slices.Contains(publishedKeys, hex.EncodeToString(sum[:]))
}
