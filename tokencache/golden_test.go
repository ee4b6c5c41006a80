package tokencache

import (
	"bytes"
	"encoding/base64"
	"flag"
	"os"
	"testing"
	"time"
)

// What one release has sealed, the next one opens. The file was sealed with a
// key that is used nowhere else; -golden seals it anew, for a new format only.
func TestGoldenSealedRecord(t *testing.T) {
	t.Parallel()
	const file = "testdata/sealed-1.golden"
	s := &sealer{aead: uncheckedRing(goldenKey()), ns: goldenNamespace}
	name, version := Name{Owner: "owner", Partition: "partition"}, Version{15: 1}
	if *golden {
		writeGolden(t, file, s, name, version)
	}
	sealed := readGolden(t, file)
	plain, err := s.open(name, Record{Sealed: sealed, Version: version})
	if err != nil {
		t.Fatalf("a record of format 1 does not open: %v", err)
	}
	snap, err := parsePlain(plain)
	if err != nil {
		t.Fatalf("a plaintext of format 1 does not parse: %v", err)
	}
	if snap.generation != (generation{0: 7}) || snap.end.Unix() != 4102444800 {
		t.Error("the generation or the end is another")
	}
	q := &query{Request: Request{Scopes: []string{"read"}}, clientID: "client", account: "uid.utid", margin: time.Minute}
	tok, fresh, err := snap.find(q, time.Unix(4000000000, 0))
	if err != nil || fresh != isFresh || tok.AccessToken != "golden access token" {
		t.Errorf("got freshness %v, error %v, or another token", fresh, err)
	}
	if rt, ok, err := snap.refreshToken("client", "uid.utid"); err != nil || !ok || rt != "golden refresh token" {
		t.Errorf("got refresh token %v, %v, or another", ok, err)
	}
}

// The rings of a rotation, and of a revocation, read what the first release has
// sealed, or know why not. The ID is a part of the format too.
func TestGoldenSealedRecordRotated(t *testing.T) {
	t.Parallel()
	const goldenID = "9ac22e6a"
	name := Name{Owner: "owner", Partition: "partition"}
	golden := readGolden(t, "testdata/sealed-1.golden")
	for what, tt := range map[string]struct {
		ring     *KeyRing
		outdated bool
		reason   string
		key      string
	}{
		"the key alone":          {uncheckedRing(goldenKey()), false, "", ""},
		"a new key behind":       {uncheckedRing(goldenKey(), testKey("2")), false, "", ""},
		"a new key in front":     {uncheckedRing(testKey("2"), goldenKey()), true, "", ""},
		"the old key dropped":    {uncheckedRing(testKey("2")), true, reasonUnknownKey, goldenID},
		"the old key is revoked": {mustRing(t, []string{goldenID}, testKey("2")), true, reasonRevokedKey, goldenID},
	} {
		s := &sealer{aead: tt.ring, ns: goldenNamespace}
		_, err := s.open(name, Record{Sealed: bytes.Clone(golden), Version: Version{15: 1}})
		wantReason(t, what, err, tt.reason, tt.key)
		if got := s.outdated(golden); got != tt.outdated {
			t.Errorf("%s: outdated: %v, want %v", what, got, tt.outdated)
		}
	}
}

// goldenKey is text, which no ring takes that is not made here.
func goldenKey() []byte { return bytes.Repeat([]byte("golden key 1 "), 3)[:KeySize] }

var goldenNamespace = Namespace{Issuer: "https://login.example", ClientID: "client"}

func uncheckedRing(keys ...[]byte) *KeyRing {
	r := &KeyRing{}
	for _, k := range keys {
		r.keys = append(r.keys, newRingKey(k))
	}
	return r
}

func readGolden(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

var golden = flag.Bool("golden", false, "write the golden files anew")

func writeGolden(t *testing.T, file string, s *sealer, name Name, v Version) {
	t.Helper()
	doc := &document{}
	err := doc.apply(&change{signIn: true, grant: Grant{
		AccessToken: "golden access token", RefreshToken: "golden refresh token", IDToken: "golden ID token",
		Scopes: []string{"read", "write"}, Expires: time.Unix(4070908800, 0),
		Account: Account{ID: "uid.utid", LocalID: "uid", Tenant: "utid", Username: "user@example.test"},
	}}, &writer{clientID: "client", environment: "login.example", account: "uid.utid"}, time.Unix(1800000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := encodePlain(meta{generation: generation{0: 7}, end: time.Unix(4102444800, 0)}, doc, time.Unix(1800000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.seal(name, v, plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(sealed)), 0o600); err != nil {
		t.Fatal(err)
	}
}
