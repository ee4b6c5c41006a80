package file_test

import (
	"bytes"
	"encoding/base64"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A rolling update must find what the release before it has written: the files of
// testdata are those of the first one. -update writes new ones, which is for another
// format only.
var update = flag.Bool("update", false, "write the golden files")

func TestGolden(t *testing.T) {
	t.Parallel()
	key := []byte("\x93\x1e\xa7\x52\x0c\x6f\xd8\x44\xbb\x29\xf6\x81\x3a\xe5\x70\x9c\x17\xca\x5d\x02\x88\xf3\x4e\xb6\x61\xdf\x2a\x95\x0b\xc4\x7e\x38")
	if err := keyring.Set("coatcheck", "golden", base64.StdEncoding.EncodeToString(key)); err != nil {
		t.Fatal(err)
	}
	for golden, o := range map[string]file.Options{
		"store":      {},
		"passphrase": {Passphrase: passphrase("marker-passphrase")},
	} {
		o.Dir, o.Name = directory(t), "golden"
		path, kept := filepath.Join(o.Dir, "golden.tokens"), filepath.Join("testdata", golden+".tokens")
		if *update {
			writeGolden(t, open(t, &o), path, kept)
			continue
		}
		b, err := os.ReadFile(kept) // #nosec G304 -- one of testdata
		if err != nil {
			t.Fatal(err)
		}
		mustMkdir(t, o.Dir)
		mustWrite(t, path, b)
		p := open(t, &o)
		r, err := p.Load(t.Context(), name("living"))
		if err != nil || string(r.Sealed) != "content" || r.Version.String() != goldenVersion.String() || r.Mark != goldenMark ||
			!r.Expires.Equal(goldenExpiry) {
			t.Errorf("%s: %v", golden, err)
		}
		if r, err := p.Load(t.Context(), name("removed")); err != nil || !r.Removed() || !r.Expires.IsZero() {
			t.Errorf("%s, removed: %v", golden, err)
		}
	}
}

var (
	goldenVersion = tokencache.Version{1, 2, 3}
	goldenMark    = tokencache.Version{4, 5, 6}
	goldenExpiry  = time.Date(2200, 1, 2, 3, 4, 5, 6, time.UTC)
)

func writeGolden(t *testing.T, p *file.Provider, path, kept string) {
	t.Helper()
	for _, err := range []error{
		p.SetMark(t.Context(), "owner", goldenMark, time.Time{}),
		p.Save(t.Context(), name("living"), tokencache.Record{
			Sealed: []byte("content"), Version: goldenVersion, Mark: goldenMark, Expires: goldenExpiry,
		}, always),
		p.Save(t.Context(), name("removed"), tokencache.Record{Version: goldenVersion}, always),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path) // #nosec G304 -- of this test
	if err != nil {
		t.Fatal(err)
	}
	mustMkdir(t, "testdata")
	mustWrite(t, kept, b)
}

// FuzzDeserialize reads bytes that may be anything; those that it takes, it writes so that
// they are taken again.
func FuzzDeserialize(f *testing.F) {
	stream := file.NewStream(nil)
	var b bytes.Buffer
	for _, err := range []error{
		stream.Save(f.Context(), name("x"), record("marker-x"), always),
		stream.SetMark(f.Context(), "owner", goldenMark, goldenExpiry),
		stream.Serialize(&b),
	} {
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:40])
	f.Add([]byte("coatfile\x01\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		stream, again := file.NewStream(nil), file.NewStream(nil)
		if stream.Deserialize(bytes.NewReader(b)) != nil {
			return
		}
		var out bytes.Buffer
		if err := stream.Serialize(&out); err != nil {
			t.Fatal(err)
		}
		if err := again.Deserialize(&out); err != nil {
			t.Fatal(err)
		}
		one, _, err := stream.Names(t.Context(), "")
		other, _, err2 := again.Names(t.Context(), "")
		if err != nil || err2 != nil || len(one) != len(other) {
			t.Errorf("%d names, and then %d: %v, %v", len(one), len(other), err, err2)
		}
	})
}
