package tokencache

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
)

// macs lends HMAC-SHA256 under one key: to set one up takes longer than to use it.
type macs struct{ pool sync.Pool }

// mac is one of them, for one user at a time, with the room for what it hashes.
type mac struct {
	hash.Hash
	room []byte
}

// newMACs copies the key: HMACs are set up at any time, and whoever gave the key may
// wipe it.
func newMACs(key []byte) *macs {
	key = bytes.Clone(key)
	return &macs{sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key)} }}}
}

func (m *macs) lend() *mac { return m.pool.Get().(*mac) }

func (m *macs) back(h *mac) { m.pool.Put(h) }

// sum returns the MAC of the input, which begins in the room. It is written over the
// input, and good until the next use.
func (h *mac) sum(input []byte) []byte {
	h.Reset()
	h.Write(input)
	h.room = h.Sum(input[:0])
	return h.room
}
