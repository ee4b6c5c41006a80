package tokencache

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func randomKey(t testing.TB) []byte {
	t.Helper()
	k := make([]byte, KeySize)
	if _, err := rand.Read(k); err != nil {
		t.Fatal(err)
	}
	return k
}

// testKey is the same at each run, and in no file.
func testKey(label string) []byte {
	k := sha256.Sum256([]byte("coatcheck test key " + label))
	return k[:]
}

// mustRing has revoked IDs.
func mustRing(t testing.TB, revoked []string, keys ...[]byte) *KeyRing {
	t.Helper()
	ids, err := decodeList([]byte(`["`+strings.Join(revoked, `","`)+`"]`), decodeKeyID)
	if err != nil {
		t.Fatal(err)
	}
	r, err := makeRing(keys, ids)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newRing(t testing.TB, keys ...[]byte) *KeyRing {
	t.Helper()
	r, err := NewKeyRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestKeyRingRotation(t *testing.T) {
	t.Parallel()
	k1, k2 := randomKey(t), randomKey(t)
	old, both, newer := newRing(t, k1), newRing(t, k2, k1), newRing(t, k2)
	plain, ad := []byte("tokens"), []byte("name")
	sealed, err := old.Encrypt(plain, ad)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := both.Decrypt(sealed, ad); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("a ring with the old key behind the new one: %v", err)
	}
	if _, err := newer.Decrypt(sealed, ad); err == nil {
		t.Error("a ring without the old key opened what it sealed")
	}
	resealed, err := both.Encrypt(plain, ad)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newer.Decrypt(resealed, ad); err != nil {
		t.Errorf("the first key of the ring did not seal: %v", err)
	}
	if _, err := old.Decrypt(resealed, ad); err == nil {
		t.Error("the ring sealed with a key other than its first")
	}
}

// Every byte counts: of the header, the ciphertext and the associated data.
func TestKeyRingTampering(t *testing.T) {
	t.Parallel()
	r := newRing(t, randomKey(t))
	plain, ad := []byte("some tokens of a user"), []byte("the name of the partition")
	sealed, err := r.Encrypt(plain, ad)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, plain[:8]) {
		t.Error("the plaintext is in the ciphertext")
	}
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			if _, err := r.Decrypt(bad, ad); err == nil {
				t.Fatalf("opened with bit %d of byte %d flipped", bit, i)
			}
		}
	}
	for n := range sealed {
		if _, err := r.Decrypt(sealed[:n], ad); err == nil {
			t.Fatalf("opened when cut to %d bytes", n)
		}
	}
	for i := range ad {
		bad := bytes.Clone(ad)
		bad[i] ^= 1
		if _, err := r.Decrypt(sealed, bad); err == nil {
			t.Fatalf("opened with byte %d of the associated data changed", i)
		}
	}
	if _, err := r.Decrypt(append(bytes.Clone(sealed), 0), ad); err == nil {
		t.Error("opened with a byte appended")
	}
}

// What a load has read is decrypted where it is. Whoever uses the ring as an AEAD
// keeps the ciphertext.
func TestDecryptInPlace(t *testing.T) {
	t.Parallel()
	ring := newRing(t, randomKey(t))
	s, name, v := &sealer{aead: ring}, Name{"o", "p"}, NewVersion()
	plain, ad := bytes.Repeat([]byte("tokens "), 1000), []byte("name")
	sealed, err := ring.Encrypt(plain, ad)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(sealed)
	if _, err := ring.Decrypt(sealed, ad); err != nil || !bytes.Equal(sealed, before) {
		t.Errorf("Decrypt has changed the ciphertext; error %v", err)
	}
	if sealed, err = s.seal(name, v, plain); err != nil {
		t.Fatal(err)
	}
	got, err := s.open(name, Record{Sealed: sealed, Version: v})
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("not what was sealed; error %v", err)
	}
	if &got[0] != &sealed[envelopeHeader+ringHeader] {
		t.Error("the plaintext is somewhere else")
	}
}

func TestKeyRingKeepsItsKeys(t *testing.T) {
	t.Parallel()
	k := randomKey(t)
	r := newRing(t, k)
	sealed, err := r.Encrypt([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	clear(k) // the caller wipes its copy
	if _, err := r.Decrypt(sealed, nil); err != nil {
		t.Errorf("the ring shares the caller's slice: %v", err)
	}
}

func TestSealBindsNameNamespaceAndVersion(t *testing.T) {
	t.Parallel()
	ring := newRing(t, randomKey(t))
	part := rapid.SampledFrom([]string{"a", "b", "ab", "ba", ""})
	type context struct {
		ns   Namespace
		name Name
		v    Version
	}
	draw := func(t *rapid.T, label string) context {
		return context{
			Namespace{part.Draw(t, label), part.Draw(t, label), part.Draw(t, label)},
			Name{part.Draw(t, label), part.Draw(t, label)},
			Version{rapid.ByteRange(0, 1).Draw(t, label)},
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t, "sealed"), draw(t, "opened")
		sealed, err := (&sealer{aead: ring, ns: a.ns}).seal(a.name, a.v, []byte("tokens"))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := (&sealer{aead: ring, ns: b.ns}).open(b.name, Record{Sealed: sealed, Version: b.v})
		if opened := err == nil; opened != (a == b) {
			t.Fatalf("opened: %v; sealed as %+v, opened as %+v", opened, a, b)
		}
		if err == nil && string(plain) != "tokens" {
			t.Errorf("got %q", plain)
		}
	})
}
