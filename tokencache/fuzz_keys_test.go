package tokencache

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"os"
	"slices"
	"testing"
)

// sealedBy makes a record as the layout in the documentation says, with the salt
// and the nonce of another one.
func sealedBy(t testing.TB, s *sealer, key []byte, name Name, v Version, plain, like []byte) []byte {
	t.Helper()
	id := ringKeyID(key)
	header := append([]byte{'C', 'C', 1, 1, 1, 1}, id[:]...)
	header = append(header, like[10:26]...)
	derived, err := hkdf.Expand(sha256.New, key, "coatcheck seal 1"+string(like[10:26]), 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	ad := append(bytes.Clone(header[4:]), s.associated(nil, header[:4], name, v)...)
	return gcm.Seal(append(header, like[26:38]...), like[26:38], plain, ad)
}

// Nothing opens but what was sealed, and whatever else is there has a reason.
func FuzzOpen(f *testing.F) {
	keyed := &sealer{aead: newRing(f, testKey("1"), testKey("2")), ns: goldenNamespace}
	old := &sealer{aead: newRing(f, testKey("2")), ns: goldenNamespace}
	plain := &sealer{ns: goldenNamespace}
	name, v := Name{"owner", "partition"}, Version{15: 1}
	for _, s := range []*sealer{keyed, old} {
		for _, text := range []string{"", "tokens"} {
			b, err := s.seal(name, v, []byte(text))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
			f.Add(b[:len(b)-1])
			f.Add(b[:envelopeHeader+ringHeader])
		}
	}
	open, _ := plain.seal(name, v, []byte("tokens"))
	f.Add(open)
	f.Add([]byte{})
	f.Add([]byte("CC"))
	golden, err := os.ReadFile("testdata/sealed-1.golden")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	reasons := []string{reasonFormat, reasonPlaintext, reasonSealed, reasonUnknownKey, reasonRevokedKey, reasonAltered}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		for _, s := range []*sealer{keyed, old, plain} {
			got, err := s.open(name, Record{Sealed: bytes.Clone(b), Version: v})
			outdated := s.outdated(b)
			var u *unreadableError
			switch {
			case err == nil && s == plain:
				if !bytes.Equal(got, b[envelopeHeader:]) || outdated {
					t.Fatal("plaintext is not what was stored, or is outdated")
				}
			case err == nil:
				one, two := sealedBy(t, s, testKey("1"), name, v, got, b), sealedBy(t, s, testKey("2"), name, v, got, b)
				if !bytes.Equal(b, two) && (s == old || !bytes.Equal(b, one)) {
					t.Fatal("a forged record opens")
				}
				if want := s == keyed && bytes.Equal(b, two); outdated != want {
					t.Fatalf("outdated: %v, want %v", outdated, want)
				}
			case !errors.As(err, &u) || !errors.Is(err, ErrUnreadable) || !slices.Contains(reasons, u.reason):
				t.Fatalf("got %v, want ErrUnreadable with a reason", err)
			case (u.key != "") != (u.reason == reasonUnknownKey || u.reason == reasonRevokedKey):
				t.Fatalf("the reason %q has the key %q", u.reason, u.key)
			}
		}
		if !bytes.Equal(b, before) {
			t.Fatal("the input was changed")
		}
	})
}

// Whatever is taken for a key set makes keys that work.
func FuzzParseKeys(f *testing.F) {
	n, k1, k2 := b64(testKey("names")), b64(testKey("1")), b64(testKey("2"))
	for _, text := range []string{
		`{"names":"` + n + `","seal":["` + k1 + `"]}`,
		"{\n \"seal\": [\"" + k1 + "\", \"" + k2 + "\"],\n \"names\": \"" + n + "\", \"revoked\": [\"00000000\"]\n}\n",
		`{"names":"` + n + `","seal":["` + k2 + `"],"revoked":["0f9223c0"]}`,
		`{"names":null,"seal":[[]],"revoked":{}}`,
		`{"\u006eames":"\ud800","seal":["",""]}`,
		"", "{}", "[", `{"a`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		keys, err := parseKeys(text)
		if !bytes.Equal(text, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if keys != nil || len(err.Error()) > 200 {
				t.Fatalf("got keys, or an error of %d bytes", len(err.Error()))
			}
			return
		}
		if err := keys.check(); err != nil {
			t.Fatalf("the keys that were read are refused: %v", err)
		}
		ring := keys.Seal.(*KeyRing)
		sealed, err := ring.Encrypt([]byte("tokens"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ring.Decrypt(sealed, nil); err != nil || string(got) != "tokens" {
			t.Fatalf("the ring does not open what it sealed: %v", err)
		}
	})
}

// A ticket has one text, and opens an account's partition at one generation.
func FuzzParseTicket(f *testing.F) {
	for _, ticket := range []Ticket{
		{"account", "", generation{1}}, {"uid.utid", "session", generation{15: 255}},
		{"\x00\xff", "\x00", generation{8: 8}}, {"zero", "", generation{}},
	} {
		f.Add(ticket.Encode())
	}
	for _, text := range []string{"", "1.", "1..", "1.AQID.YWNjb3VudA", "2.AQAAAAAAAAAAAAAAAAAAAA.YQ", "1.AQAAAAAAAAAAAAAAAAAAAA.YQ==", "1.AQAAAAAAAAAAAAAAAAAAAA.YR"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ticket, err := ParseTicket(text)
		if err != nil {
			if ticket != (Ticket{}) || err.Error() != errTicket.Error() {
				t.Fatalf("got a ticket along with the error %v", err)
			}
			return
		}
		if ticket.Encode() != text {
			t.Fatalf("%q is another text of a ticket", text)
		}
		if ticket.Account() == "" || ticket.generation == (generation{}) {
			t.Fatal("a ticket without an account or a generation opens what it must not")
		}
		if name, err := testNamer("i", "c", "").name(ticket.Key().id); err != nil || name == (Name{}) {
			t.Fatalf("the key has no name: %v", err)
		}
	})
}
