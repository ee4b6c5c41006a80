package tokencache

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// counted returns a key that counts from first in steps.
func counted(first, step byte) []byte {
	k := make([]byte, KeySize)
	for i := range k {
		k[i] = first + step*byte(i)
	}
	return k
}

func TestNewKeyRingRefuses(t *testing.T) {
	t.Parallel()
	k := testKey("1")
	withoutKeys, nist := sha256.Sum256([]byte("coatcheck without keys")),
		unhex(t, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
	for name, tt := range map[string]struct {
		keys [][]byte
		want string
	}{
		"no keys":           {nil, "needs a key"},
		"short":             {[][]byte{k[:31]}, "has 32 bytes, this one 31"},
		"long":              {[][]byte{append(bytes.Clone(k), 1)}, "has 32 bytes, this one 33"},
		"nil":               {[][]byte{nil}, "has 32 bytes, this one 0"},
		"all zero":          {[][]byte{make([]byte, KeySize)}, "repeats"},
		"one byte":          {[][]byte{bytes.Repeat([]byte{0xf7}, KeySize)}, "repeats"},
		"two bytes":         {[][]byte{bytes.Repeat([]byte{0xf7, 1}, 16)}, "repeats"},
		"16 bytes twice":    {[][]byte{append(bytes.Clone(k[:16]), k[:16]...)}, "repeats"},
		"15 bytes padded":   {[][]byte{append(bytes.Clone(k[:15]), make([]byte, 17)...)}, "repeats"},
		"a number":          {[][]byte{append(make([]byte, 24), k[:8]...)}, "repeats"},
		"counting":          {[][]byte{counted(0, 1)}, "counts"},
		"counting from 240": {[][]byte{counted(240, 1)}, "counts"},
		"counting down":     {[][]byte{counted(31, 255)}, "counts"},
		"counting by 7":     {[][]byte{counted(1, 7)}, "counts"},
		"words":             {[][]byte{[]byte("change this password to a secret")}, "is text"},
		"a word repeated":   {[][]byte{[]byte("changemechangemechangemechangeme")}, "is text"},
		"text and newline":  {[][]byte{[]byte("change this password to secrets\n")}, "is text"},
		"hex not decoded":   {[][]byte{[]byte(hex.EncodeToString(k)[:32])}, "is text"},
		"base64 cut":        {[][]byte{[]byte(base64.StdEncoding.EncodeToString(k)[:32])}, "is text"},
		"base64":            {[][]byte{[]byte(base64.StdEncoding.EncodeToString(k))}, "decode"},
		"hex":               {[][]byte{[]byte(hex.EncodeToString(k))}, "decode"},
		"our fixed key":     {[][]byte{withoutKeys[:]}, "published"},
		"a key of NIST":     {[][]byte{nist}, "published"},
		"twice":             {[][]byte{k, testKey("2"), bytes.Clone(k)}, "key 3 is in the ring already"},
		"bad at last":       {[][]byte{k, k[:5]}, "key 2"},
	} {
		_, err := NewKeyRing(tt.keys...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
			continue
		}
		for _, k := range tt.keys {
			showsNothing(t, name, err, k)
		}
	}
}

// showsNothing checks that the error shows no part of a key, whichever way it
// is printed.
func showsNothing(t testing.TB, what string, err error, key []byte) {
	t.Helper()
	if len(key) < 5 {
		return
	}
	part := key[:5]
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for _, shown := range []string{string(part), fmt.Sprintf("%x", part), fmt.Sprintf("%#v", part)[7:], fmt.Sprintf("%d", part)[1:],
		base64.StdEncoding.EncodeToString(key)[:6]} {
		if strings.Contains(text, strings.TrimRight(shown, "]}")) {
			t.Errorf("%s: the error shows a key: %s", what, text)
		}
	}
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The checks must not refuse what chance brings.
func TestRandomKeysAreAccepted(t *testing.T) {
	t.Parallel()
	for range 20_000 {
		if err := checkKey(randomKey(t)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeysCheck(t *testing.T) {
	t.Parallel()
	k1, k2 := testKey("1"), testKey("2")
	for name, tt := range map[string]struct {
		keys Keys
		want string
	}{
		"good":                        {Keys{Names: k1, Seal: newRing(t, k2)}, ""},
		"good, foreign AEAD":          {Keys{Names: k1, Seal: wrappedAEAD{newRing(t, k1)}}, ""},
		"the key that seals":          {Keys{Names: k1, Seal: newRing(t, k1)}, "is a key of the ring too"},
		"the key that sealed":         {Keys{Names: k1, Seal: newRing(t, k2, k1)}, "is a key of the ring too"},
		"names are text":              {Keys{Names: []byte("changemechangemechangemechangeme"), Seal: newRing(t, k2)}, "Keys.Names: the key is text"},
		"names are what anyone knows": {Keys{Names: counted(0, 1), Seal: newRing(t, k2)}, "Keys.Names: the key counts"},
		"no names":                    {Keys{Seal: newRing(t, k2)}, "Keys.Names"},
		"nothing":                     {Keys{Names: k1}, "Keys.Seal"},
	} {
		err := tt.keys.check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if err != nil {
			showsNothing(t, name, err, k1)
		}
	}
}

func TestKeyIDs(t *testing.T) {
	t.Parallel()
	got := newRing(t, testKey("1"), testKey("2")).IDs()
	// HMAC-SHA256 of "coatcheck key id 1", computed with OpenSSL.
	if want := "0f9223c0 a2638bbf"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q: what is listed as revoked would no longer be", got, want)
	}
}

var looksLikeKey = regexp.MustCompile(`[A-Za-z0-9+/_-]{43}=?|[0-9A-Fa-f]{64}`)

// A key that a document shows gets used: there is none, or it is in publishedKeys.
func TestDocumentsShowNoKeys(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"../*.md", "../*.yml", "../examples/*/*", "doc.go", "keysource.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: found %d files, %v", pattern, len(found), err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // a directory
		}
		for _, text := range looksLikeKey.FindAllString(string(b), -1) {
			for _, decode := range []func(string) ([]byte, error){
				base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString, base64.RawURLEncoding.DecodeString, hex.DecodeString,
			} {
				if k, err := decode(text); err == nil && checkKey(k) == nil {
					t.Errorf("%s shows %s, which would be accepted as a key", file, text)
				}
			}
		}
	}
}
