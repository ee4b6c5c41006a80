package tokencache

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

// Whatever is read is written so that it reads the same, and other JSON readers
// accept it.
func FuzzDocument(f *testing.F) {
	for _, name := range []string{"sample-msal-go-cache.json", "sample-msal-node-cache.json", "cache-from-the-future.json"} {
		f.Add(readFile(f, name))
	}
	f.Add([]byte(encoded(goldenDocument(f))))
	f.Add([]byte(`{"AccessToken":{"a":{"secret":"s","target":"b a","ext":{"resource":"r"}},"b":{"requestedClaims":"{}","userAssertionHash":"h="}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDocument(b)
		if err != nil {
			return
		}
		once := encoded(d)
		if !json.Valid([]byte(once)) {
			t.Fatalf("not JSON: %s", once)
		}
		again, err := parseDocument([]byte(once))
		if len(once) > MaxTokensSize {
			return
		}
		if err != nil {
			t.Fatalf("does not read again: %v: %s", err, once)
		}
		if twice := encoded(again); twice != once {
			t.Fatalf("changes when written again:\n%s\n%s", once, twice)
		}
		c := refreshChange("A1", "R0", "R1", "read")
		mustApply(t, again, c, testWriter(), testNow)
		plain, err := encodePlain(meta{}, again, testNow)
		if err != nil {
			return
		}
		s, err := parsePlain(plain)
		if err != nil {
			t.Fatalf("the plaintext does not read: %v", err)
		}
		exercise(t, s, true)
	})
}

func FuzzParsePlain(f *testing.F) {
	for _, d := range []*document{{}, goldenDocument(f), caeDocument(f), mustParse(f, string(readFile(f, "sample-msal-go-cache.json")))} {
		b, err := encodePlain(goldenMeta, d, testNow)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		s, err := parsePlain(b)
		if err != nil {
			return
		}
		exercise(t, s, false)
		if !bytes.Equal(b, before) {
			t.Fatal("the input was changed")
		}
	})
}

// exercise calls everything that reads a snapshot. Nothing may panic; if the
// snapshot is sound, nothing fails.
func exercise(t *testing.T, s *snapshot, sound bool) {
	t.Helper()
	check := func(err error) {
		if sound && err != nil {
			t.Fatal(err)
		}
	}
	for i := range s.entries {
		e := &s.entries[i]
		q := query{
			Request:  Request{Scopes: e.scopes, Tenant: e.realm, Resource: e.resource, CAE: e.flags&flagCAE != 0, Refused: "x"},
			clientID: e.client, account: e.account, assertion: e.assertion, margin: time.Hour,
		}
		_, _, err := s.find(&q, testNow)
		check(err)
		_, _, err = s.refreshToken(e.client, e.account)
		check(err)
		s.usable(e.client, e.account, testNow)
	}
	s.lastExpiry()
	s.size()
	_, err := s.document()
	check(err)
	tokens := tokensOf(s)
	tokens.Entries()
	tokens.Accounts()
	_ = tokens.String()
}
