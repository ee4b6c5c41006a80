package tokencache

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"
)

// The MACs are those of the standard library, also of messages that do not fit
// on the stack.
func TestMACsAreTheStandardOnes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 0, sha256.BlockSize).Draw(t, "key")
		message := rapid.SliceOfN(rapid.Byte(), 0, 1000).Draw(t, "message")
		h := hmac.New(sha256.New, key)
		h.Write(message)
		if got := hmacSHA256(key, message); !bytes.Equal(got[:], h.Sum(nil)) {
			t.Fatal("another HMAC than the standard library's")
		}
		salt := rapid.SliceOfN(rapid.Byte(), 0, sha256.BlockSize).Draw(t, "salt")
		info := rapid.String().Draw(t, "info")
		want, err := hkdf.Key(sha256.New, message, salt, info, sha256.Size)
		if err != nil {
			t.Fatal(err)
		}
		if got := hkdfSHA256(message, salt, info); !bytes.Equal(got[:], want) {
			t.Fatal("another key than the standard library's")
		}
	})
}

// RFC 4231 §4.3 (test case 2) and RFC 5869 §A.1 (the first 32 bytes).
func TestMACsOfTheRFCs(t *testing.T) {
	t.Parallel()
	sum := hmacSHA256([]byte("Jefe"), []byte("what do ya want for nothing?"))
	if got := hex.EncodeToString(sum[:]); got != "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" {
		t.Errorf("HMAC: %s", got)
	}
	salt := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	sum = hkdfSHA256(bytes.Repeat([]byte{0x0b}, 22), salt, "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9")
	if got := hex.EncodeToString(sum[:]); got != "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf" {
		t.Errorf("HKDF: %s", got)
	}
}

func TestMACsDoNotAllocate(t *testing.T) {
	key, message := testKey("names"), make([]byte, 300)
	if got := testing.AllocsPerRun(100, func() {
		_ = hmacSHA256(key, message)
		_ = hkdfSHA256(key, message[:16], ringInfo)
	}); got > 0 {
		t.Errorf("%v allocations", got)
	}
}
