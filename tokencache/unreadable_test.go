package tokencache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// wantReason checks the error of opening a record: its reason and the key that
// it names, both empty for none.
func wantReason(t testing.TB, what string, err error, reason, key string) {
	t.Helper()
	if reason == "" {
		if err != nil {
			t.Errorf("%s: does not open: %v", what, err)
		}
		return
	}
	var u *unreadableError
	switch {
	case !errors.As(err, &u) || !errors.Is(err, ErrUnreadable) || !errors.Is(err, ErrNoTokens):
		t.Errorf("%s: got %v, want ErrUnreadable: %s", what, err, reason)
	case errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrRemoved):
		t.Errorf("%s: got %v, which is another state too", what, err)
	case u.reason != reason || u.key != key:
		t.Errorf("%s: got the reason %q %q, want %q %q", what, u.reason, u.key, reason, key)
	case !strings.Contains(err.Error(), reason) || !strings.HasSuffix(err.Error(), key):
		t.Errorf("%s: %q does not tell the reason", what, err)
	}
}

func TestOpenTellsTheReason(t *testing.T) {
	t.Parallel()
	k1, k2 := testKey("1"), testKey("2")
	id1 := newRing(t, k1).IDs()[0]
	ns := Namespace{Issuer: "i", ClientID: "c"}
	keyed, plain := &sealer{aead: newRing(t, k1), ns: ns}, &sealer{ns: ns}
	rotated := &sealer{aead: newRing(t, k2), ns: ns}
	revoked := &sealer{aead: mustRing(t, []string{"00000000", id1}, k2), ns: ns}
	foreign := &sealer{aead: brokenAEAD{errors.New("marker of a secret")}, ns: ns}
	wrapped := &sealer{aead: wrappedAEAD{newRing(t, k2)}, ns: ns}
	name, v := Name{"o", "p"}, NewVersion()
	sealed, _ := keyed.seal(name, v, []byte("tokens"))
	open, _ := plain.seal(name, v, []byte("tokens"))
	change := func(at int, b byte) []byte {
		out := bytes.Clone(sealed)
		out[at] = b
		return out
	}
	for what, tt := range map[string]struct {
		s      *sealer
		name   Name
		v      Version
		sealed []byte
		reason string
		key    string
	}{
		"nothing wrong":                      {keyed, name, v, sealed, "", ""},
		"nothing wrong, plaintext":           {plain, name, v, open, "", ""},
		"plaintext where there are keys":     {keyed, name, v, open, reasonPlaintext, ""},
		"downgraded":                         {keyed, name, v, change(3, protectionNone), reasonPlaintext, ""},
		"ciphertext where there are no keys": {plain, name, v, sealed, reasonSealed, ""},
		"a protection of the future":         {keyed, name, v, change(3, 2), reasonFormat, ""},
		"plaintext relabelled as ciphertext": {keyed, name, v, append([]byte{'C', 'C', 1, 1}, open[4:]...), reasonFormat, ""},
		"a format of the future":             {keyed, name, v, change(2, 2), reasonFormat, ""},
		"a format of the past":               {keyed, name, v, change(2, 0), reasonFormat, ""},
		"a ring format of the future":        {keyed, name, v, change(4, 2), reasonFormat, ""},
		"an algorithm of the future":         {keyed, name, v, change(5, 2), reasonFormat, ""},
		"not ours":                           {keyed, name, v, []byte(`{"AccessToken":{}}`), reasonFormat, ""},
		"nothing":                            {keyed, name, v, nil, reasonFormat, ""},
		"another owner":                      {keyed, Name{"O", "p"}, v, sealed, reasonAltered, ""},
		"another partition":                  {keyed, Name{"o", "P"}, v, sealed, reasonAltered, ""},
		"another version":                    {keyed, name, NewVersion(), sealed, reasonAltered, ""},
		"another issuer":                     {&sealer{keyed.aead, Namespace{Issuer: "I", ClientID: "c"}}, name, v, sealed, reasonAltered, ""},
		"another client":                     {&sealer{keyed.aead, Namespace{Issuer: "i", ClientID: "C"}}, name, v, sealed, reasonAltered, ""},
		"another tenant":                     {&sealer{keyed.aead, Namespace{Issuer: "i", ClientID: "c", Tenant: "t"}}, name, v, sealed, reasonAltered, ""},
		"unknown key":                        {rotated, name, v, sealed, reasonUnknownKey, id1},
		"revoked key":                        {revoked, name, v, sealed, reasonRevokedKey, id1},
		"unknown key, ring in a wrapper":     {wrapped, name, v, sealed, reasonUnknownKey, id1},
		"foreign AEAD":                       {foreign, name, v, sealed, reasonForeign, ""},
	} {
		got, err := tt.s.open(tt.name, Record{Sealed: bytes.Clone(tt.sealed), Version: tt.v})
		wantReason(t, what, err, tt.reason, tt.key)
		if err == nil && string(got) != "tokens" || err != nil && got != nil {
			t.Errorf("%s: got the plaintext %q", what, got)
		}
		if err != nil && strings.Contains(fmt.Sprintf("%+v %#v", err, err), "marker") {
			t.Errorf("%s: the error repeats what a foreign AEAD said", what)
		}
	}
}

// Every byte of a record has its reason, and every length.
func TestOpenTampered(t *testing.T) {
	t.Parallel()
	s := &sealer{aead: newRing(t, testKey("1")), ns: Namespace{Issuer: "i", ClientID: "c"}}
	name, v := Name{"o", "p"}, NewVersion()
	sealed, err := s.seal(name, v, []byte("tokens of somebody"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			reason, key := reasonAltered, ""
			switch {
			case i == 3 && bit == 0:
				reason = reasonPlaintext
			case i < envelopeHeader+2:
				reason = reasonFormat
			case i < envelopeHeader+ringSaltAt:
				reason, key = reasonUnknownKey, fmt.Sprintf("%x", bad[envelopeHeader+2:envelopeHeader+ringSaltAt])
			}
			_, err := s.open(name, Record{Sealed: bad, Version: v})
			wantReason(t, fmt.Sprintf("bit %d of byte %d flipped", bit, i), err, reason, key)
		}
	}
	for n := range sealed {
		reason := reasonAltered
		if n < envelopeHeader+ringHeader {
			reason = reasonFormat
		}
		_, err := s.open(name, Record{Sealed: sealed[:n], Version: v})
		wantReason(t, fmt.Sprintf("cut to %d bytes", n), err, reason, "")
	}
	_, err = s.open(name, Record{Sealed: append(bytes.Clone(sealed), 0), Version: v})
	wantReason(t, "a byte appended", err, reasonAltered, "")
}

func TestOutdated(t *testing.T) {
	t.Parallel()
	one, two := newRing(t, testKey("1")), newRing(t, testKey("2"), testKey("1"))
	name, v := Name{"o", "p"}, NewVersion()
	sealed, err := (&sealer{aead: one}).seal(name, v, []byte("tokens"))
	if err != nil {
		t.Fatal(err)
	}
	resealed, err := (&sealer{aead: two}).seal(name, v, []byte("tokens"))
	if err != nil {
		t.Fatal(err)
	}
	open, _ := (&sealer{}).seal(name, v, []byte("tokens"))
	for what, tt := range map[string]struct {
		aead   AEAD
		sealed []byte
		want   bool
	}{
		"first key":         {one, sealed, false},
		"second key":        {two, sealed, true},
		"resealed":          {two, resealed, false},
		"unknown key":       {one, resealed, true},
		"foreign AEAD":      {wrappedAEAD{two}, sealed, false},
		"no keys":           {nil, sealed, false},
		"plaintext":         {two, open, false},
		"plaintext, no key": {nil, open, false},
		"downgraded":        {two, append([]byte{'C', 'C', 1, 0}, sealed[4:]...), false},
		"header only":       {two, sealed[:4], false},
		"cut":               {two, sealed[:4+ringHeader-1], false},
		"removed":           {two, nil, false},
	} {
		if got := (&sealer{aead: tt.aead}).outdated(tt.sealed); got != tt.want {
			t.Errorf("%s: got %v, want %v", what, got, tt.want)
		}
	}
}

type brokenAEAD struct{ err error }

func (b brokenAEAD) Encrypt(_, _ []byte) ([]byte, error) { return nil, b.err }
func (b brokenAEAD) Decrypt(_, _ []byte) ([]byte, error) { return nil, b.err }

// wrappedAEAD is a ring that an application has put something around.
type wrappedAEAD struct{ AEAD }

func (w wrappedAEAD) Decrypt(c, ad []byte) ([]byte, error) {
	plain, err := w.AEAD.Decrypt(c, ad)
	if err != nil {
		return nil, fmt.Errorf("marker: %w", err)
	}
	return plain, nil
}

func TestOpenTellsOutageFromTampering(t *testing.T) {
	t.Parallel()
	sealed := Record{Sealed: []byte{'C', 'C', 1, 1, 0}}
	down := &sealer{aead: brokenAEAD{unavailable("kms", errors.New("no route"))}}
	if _, err := down.open(Name{}, sealed); errors.Is(err, ErrNoTokens) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("a key service that is down gave %v: the user would be signed out", err)
	}
}

// What the ring says to others than a Cache shows neither key nor plaintext.
func TestDecryptErrorsShowNothing(t *testing.T) {
	t.Parallel()
	k, k2 := testKey("1"), testKey("2")
	r := newRing(t, k)
	sealed, err := r.Encrypt([]byte("marker"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() ([]byte, error){
		"format":  func() ([]byte, error) { return r.Decrypt(nil, nil) },
		"altered": func() ([]byte, error) { return r.Decrypt(sealed, []byte("x")) },
		"unknown": func() ([]byte, error) { return newRing(t, k2).Decrypt(sealed, nil) },
	} {
		_, err := f()
		if err == nil {
			t.Fatalf("%s: opened", what)
		}
		text, _ := json.Marshal(err)
		out := fmt.Sprintf("%v %+v %#v %d %s", err, err, err, err, text)
		for _, secret := range []string{"marker", string(k), fmt.Sprintf("%x", k), fmt.Sprintf("%d", k)} {
			if strings.Contains(out, secret) {
				t.Errorf("%s: the error shows a secret: %s", what, out)
			}
		}
	}
}
