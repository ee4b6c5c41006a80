package session

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

var fuzzName = tokencache.Name{Owner: "owner", Partition: "partition"}

// stored returns records over a store that has the bytes under fuzzName.
func stored(t testing.TB, b []byte) *records {
	t.Helper()
	m := &scs.SessionManager{Store: memstore.NewWithCleanupInterval(0), Codec: scs.GobCodec{}}
	if err := m.Store.Commit(tokenOf(fuzzName), b, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	return &records{manager: m, key: "coatcheck.record"}
}

func gob(t testing.TB, values map[string]any) []byte {
	t.Helper()
	b, err := scs.GobCodec{}.Encode(time.Now().Add(time.Hour), values)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever is stored, by whomever: it is a record that this package has written, or
// something without a version that a sign-in replaces. It is never a tombstone or
// nothing.
func FuzzStored(f *testing.F) {
	r := tokencache.Record{Sealed: []byte("sealed"), Version: tokencache.NewVersion(), Expires: time.Now().Add(time.Hour)}
	f.Add(gob(f, encode(r, "coatcheck.record")))
	f.Add(gob(f, encode(tokencache.Record{Version: r.Version}, "coatcheck.record")))
	f.Add(gob(f, map[string]any{"coatcheck": "1.2.3"}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := stored(t, b)
		got, err := s.Load(t.Context(), fuzzName)
		switch {
		case err != nil:
			if !errors.Is(err, tokencache.ErrNotFound) && !errors.Is(err, tokencache.ErrTooLarge) {
				t.Fatalf("error %v", err)
			}
			return
		case got.Version == tokencache.Version{}:
			if got.Removed() || len(got.Sealed) > tokencache.MaxSealedSize {
				t.Fatalf("what is foreign has %d bytes", len(got.Sealed))
			}
			if err := s.Save(t.Context(), fuzzName, r, tokencache.IfVersion(tokencache.Version{})); !errors.Is(err, tokencache.ErrConflict) {
				t.Fatalf("replaced by a refresh: %v", err)
			}
		}
		if err := s.Save(t.Context(), fuzzName, r, tokencache.Condition{}); !errors.Is(err, tokencache.ErrConflict) {
			t.Fatalf("replaced by what is new: %v", err)
		}
		if err := s.Save(t.Context(), fuzzName, r, tokencache.Always()); err != nil {
			t.Fatalf("not replaced: %v", err)
		}
		if again, err := s.Load(t.Context(), fuzzName); err != nil || again.Version != r.Version {
			t.Fatalf("stored another: %v", err)
		}
	})
}

// The text is what encode writes, or foreign.
func FuzzDecode(f *testing.F) {
	v := tokencache.Version{1}
	f.Add(encode(tokencache.Record{Sealed: []byte("sealed"), Version: v, Expires: time.UnixMilli(1)}, "k")["k"].(string))
	f.Add(encode(tokencache.Record{Version: v}, "k")["k"].(string))
	f.Add("")
	f.Add(strings.Repeat("A", 40))
	f.Fuzz(func(t *testing.T, text string) {
		r := decode(map[string]any{"k": text}, "k")
		if r.Version == (tokencache.Version{}) {
			if r.Removed() {
				t.Fatal("foreign, and a tombstone")
			}
			return
		}
		if again := encode(r, "k")["k"]; again != text {
			t.Fatalf("%q was read, and is written as %q", text, again)
		}
	})
}

// What no codec should return, and what others may have put there.
func TestForeignRecords(t *testing.T) {
	t.Parallel()
	good := encode(tokencache.Record{Sealed: []byte("sealed"), Version: tokencache.NewVersion()}, "k")["k"]
	zero := encode(tokencache.Record{Sealed: []byte("sealed")}, "k")["k"]
	for name, values := range map[string]map[string]any{
		"nothing":      nil,
		"another key":  {"other": good},
		"two values":   {"k": good, "other": 1},
		"bytes":        {"k": []byte(good.(string))},
		"no version":   {"k": zero},
		"a line break": {"k": good.(string)[:8] + "\n" + good.(string)[8:]},
		"too short":    {"k": "AQ"},
		"a format":     {"k": base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{2}, 60))},
		"too long":     {"k": base64.RawURLEncoding.EncodeToString(append([]byte{1}, make([]byte, minSize+tokencache.MaxSealedSize)...))},
	} {
		if r := decode(values, "k"); r.Version != (tokencache.Version{}) || r.Removed() {
			t.Errorf("%s: taken for a record", name)
		}
	}
	if r := decode(map[string]any{"k": good}, "k"); string(r.Sealed) != "sealed" {
		t.Error("a record is foreign")
	}
}

// Nothing is decoded that is larger than anything that was stored, and the largest
// is smaller.
func TestStoredSize(t *testing.T) {
	t.Parallel()
	if _, err := stored(t, make([]byte, maxStored+1)).Load(t.Context(), fuzzName); !errors.Is(err, tokencache.ErrTooLarge) {
		t.Errorf("error %v", err)
	}
	if b := gob(t, encode(tokencache.Record{Sealed: make([]byte, tokencache.MaxSealedSize)}, "k")); len(b) > maxStored*2/3 {
		t.Errorf("the largest has %d bytes of %d", len(b), maxStored)
	}
}

// Notes are bounded, and the newest are kept.
func TestNotesAreBounded(t *testing.T) {
	t.Parallel()
	var n notes
	end := time.Now().Add(time.Hour)
	name := func(i int) tokencache.Name {
		return tokencache.Name{Partition: strings.Repeat("x", i%50) + time.Duration(i).String()}
	}
	for i := range 3 * maxNotes {
		n.saved(name(i), tokencache.Record{Version: tokencache.Version{1}, Expires: end}, end)
	}
	if size := len(n.new) + len(n.old); size > maxNotes {
		t.Errorf("%d notes", size)
	}
	if !n.lasts(name(3*maxNotes-1), tokencache.Version{1}, end) || n.lasts(name(0), tokencache.Version{1}, end) {
		t.Error("the oldest are kept, and not the newest")
	}
	n.saved(tokencache.Name{Partition: "of no session"}, tokencache.Record{}, time.Time{})
	if _, ok := n.get("of no session"); ok {
		t.Error("what belongs to no session is noted")
	}
}
