package tokencache

import "crypto/sha256"

// hmacSHA256 is HMAC-SHA256 (RFC 2104) under a key of at most a block. It is what
// crypto/hmac computes; that makes two hashes for every key, and each load needs
// four of these MACs: two for its name and two for its key.
func hmacSHA256(key, message []byte) [sha256.Size]byte {
	const inner, outer = 0x36, 0x5c
	var pad [sha256.BlockSize]byte
	copy(pad[:], key)
	for i := range pad {
		pad[i] ^= inner
	}
	b := make([]byte, 0, 512) // on the stack, and nearly always enough
	sum := sha256.Sum256(append(append(b, pad[:]...), message...))
	for i := range pad {
		pad[i] ^= inner ^ outer
	}
	return sha256.Sum256(append(append(b, pad[:]...), sum[:]...))
}

// hkdfSHA256 is HKDF-SHA256 (RFC 5869) for as many bytes as the hash has.
func hkdfSHA256(secret, salt []byte, info string) [sha256.Size]byte {
	extracted := hmacSHA256(salt, secret)
	return hmacSHA256(extracted[:], append([]byte(info), 1))
}
