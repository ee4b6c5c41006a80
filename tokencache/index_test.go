package tokencache

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// goldenDocument has one item of every kind that the index knows.
func goldenDocument(t testing.TB) *document {
	t.Helper()
	d := mustParse(t, `{
		"AccessToken": {"1": {"home_account_id":"uid.utid","environment":"login.example","client_id":"cousin","realm":"other",
			"secret":"special","target":"x","token_type":"pop","cached_at":"1795245000","expires_on":"1795249999"}},
		"RefreshToken": {"1": {"home_account_id":"uid.utid","environment":"login.example","client_id":"cousin","family_id":"1","secret":"family"}},
		"AppMetadata": {"1": {"client_id":"cousin","environment":"login.example","family_id":"1"}},
		"Future": [1]
	}`)
	mustApply(t, d, change{
		signIn: true,
		req:    Request{Resource: "https://api.example", Claims: `{"access_token":{"acrs":null}}`},
		grant: Grant{
			AccessToken: "access", Scopes: []string{"Write", "Read"}, Expires: testNow.Add(time.Hour), RefreshOn: testNow.Add(30 * time.Minute),
			RefreshToken: "refresh", IDToken: "id", ClientInfo: "info",
			Account: Account{ID: testAccount, LocalID: "local", Tenant: "utid", Username: "user", Name: "Name"},
		},
	}, testWriter(), testNow)
	return d
}

var goldenMeta = meta{ //nolint:gochecknoglobals // a constant
	generation: generation{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	mark:       Version{15: 9},
	end:        time.Unix(1_800_000_000, 0),
}

// What is stored must stay readable: if this fails, give the format a new number
// and keep reading the old one.
func TestPlaintextIsStable(t *testing.T) {
	t.Parallel()
	if *golden {
		got, _ := encodePlain(goldenMeta, goldenDocument(t), testNow)
		if err := os.WriteFile("testdata/plaintext-1.hex", []byte(hex.EncodeToString(got)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := hex.DecodeString(string(bytes.Join(bytes.Fields(readFile(t, "plaintext-1.hex")), nil)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := encodePlain(goldenMeta, goldenDocument(t), testNow)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the plaintext changed (%v):\n%s", err, hex.Dump(got))
	}
	s, err := parsePlain(want)
	if err != nil {
		t.Fatal(err)
	}
	if s.generation != goldenMeta.generation || s.mark != goldenMeta.mark || !s.end.Equal(goldenMeta.end) {
		t.Errorf("got %x, end %v", s.generation, s.end)
	}
	q := query{
		Request:  Request{Scopes: []string{"read"}, Resource: "https://api.example", Claims: `{"access_token":{"acrs":null}}`},
		clientID: testClient, account: testAccount, margin: 5 * time.Minute,
	}
	tok, fresh, err := s.find(&q, testNow)
	if err != nil || fresh != isFresh || string(tok.AccessToken) != "access" {
		t.Errorf("found %q, %d, %v", string(tok.AccessToken), fresh, err)
	}
	for client, want := range map[string]string{testClient: "refresh", "cousin": "family", "stranger": ""} {
		if got, _, err := s.refreshToken(client, testAccount); err != nil || string(got) != want {
			t.Errorf("refresh token of %s: %q, %v", client, string(got), err)
		}
	}
	d, err := s.document()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := encodePlain(s.meta, d, testNow); err != nil || !bytes.Equal(again, want) {
		t.Errorf("decoding and encoding again gives other bytes (%v)", err)
	}
}

func TestParsePlainRefuses(t *testing.T) {
	t.Parallel()
	good, err := encodePlain(goldenMeta, goldenDocument(t), testNow)
	if err != nil {
		t.Fatal(err)
	}
	spans, err := parsePlain(good)
	if err != nil {
		t.Fatal(err)
	}
	last := spans.entries[3].span // the refresh token's
	span := bytes.Index(good, binary.AppendUvarint(binary.AppendUvarint(nil, uint64(last.offset)), uint64(last.length)))
	put := func(at int, bytes ...byte) []byte {
		b := append([]byte(nil), good...)
		copy(b[at:], bytes)
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"header only":          good[:plainHeader],
		"trailing byte":        append(bytes.Clone(good), 0),
		"another magic":        put(0, 'X'),
		"another format":       put(3, 2),
		"end beyond time":      put(36, 0x7f),
		"negative end":         put(36, 0xff),
		"index length 0":       put(44, 0, 0, 0, 0),
		"index length huge":    put(44, 0xff, 0xff, 0xff, 0xff),
		"document length huge": put(48, 0xff, 0xff, 0xff, 0xff),
		"one entry less":       put(plainHeader, good[plainHeader]-1),
		"one entry more":       put(plainHeader, good[plainHeader]+1),
		"many entries":         put(plainHeader, 0x7f),
		"one scope less":       put(plainHeader+1, good[plainHeader+1]-1),
		"one scope more":       put(plainHeader+1, good[plainHeader+1]+1),
		"kind 0":               put(plainHeader+2, 0),
		"kind 4":               put(plainHeader+2, 4),
		"unknown flag":         put(plainHeader+3, 4),
		"text too long":        put(plainHeader+4, 0xff, 0x7f),
		"number too long":      put(plainHeader+4, bytes.Repeat([]byte{0xff}, 12)...),
		"too large":            make([]byte, MaxTokensSize+1),
		"secret after the end": put(span, 0xff, 0x7f),
		"secret over the end":  put(span, binary.AppendUvarint(nil, uint64(len(spans.json)-1))...),
	} {
		if _, err := parsePlain(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for n := range good {
		if _, err := parsePlain(good[:n]); err == nil {
			t.Fatalf("the first %d bytes: accepted", n)
		}
	}
}

// Whatever is in the entries, it is read back as it was.
func TestIndexRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const document = 1000
		entries := make([]entry, rapid.IntRange(0, 5).Draw(t, "entries"))
		texts := rapid.StringN(0, 200, 300)
		for i := range entries {
			e := &entries[i]
			e.kind = entryKind(rapid.IntRange(1, 3).Draw(t, "kind"))
			flags := 3
			if e.kind == entryAccess {
				flags = 7
			}
			e.flags = entryFlags(rapid.IntRange(0, flags).Draw(t, "flags"))
			for _, s := range []*string{&e.client, &e.account, &e.realm, &e.family, &e.resource, &e.claims, &e.assertion} {
				*s = texts.Draw(t, "text")
			}
			if rapid.Bool().Draw(t, "marked") {
				e.claims = caeMark + e.claims
			}
			e.scopes = rapid.SliceOfN(texts, 0, 5).Draw(t, "scopes")
			for _, n := range []*int64{&e.cachedAt, &e.expires, &e.refreshOn} {
				*n = rapid.Int64Range(0, maxUnix).Draw(t, "time")
			}
			e.span.offset = rapid.IntRange(0, document).Draw(t, "offset")
			e.span.length = rapid.IntRange(0, document-e.span.offset).Draw(t, "length")
		}
		b := appendIndex(nil, entries)
		got, err := parseIndex(b, document)
		if err != nil || len(got) != len(entries) {
			t.Fatalf("%d entries, %v", len(got), err)
		}
		for i := range entries {
			if want := entries[i].append(nil); !bytes.Equal(got[i].append(nil), want) {
				t.Errorf("entry %d differs", i)
			}
			if e, g := &entries[i], &got[i]; e.flags&flagCAE != 0 && (e.claims != g.claims || g.flags&flagCAE == 0) || e.flags&flagCAE < g.flags&flagCAE {
				t.Errorf("entry %d: flags %d and claims %q became %d, %q", i, e.flags, e.claims, g.flags, g.claims)
			}
		}
	})
}
