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
	key := bytes.Repeat([]byte("golden key 1 "), 3)[:KeySize]
	s := &sealer{aead: newRing(t, key), ns: Namespace{Issuer: "https://login.example", ClientID: "client"}}
	name, version := Name{Owner: "owner", Partition: "partition"}, Version{15: 1}
	if *golden {
		writeGolden(t, file, s, name, version)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		t.Fatal(err)
	}
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
