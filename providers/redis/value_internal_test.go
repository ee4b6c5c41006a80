package redis

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// What one release stores, the next must read; machines of both run side by side
// while an application is rolled out.
func TestGolden(t *testing.T) {
	v := tokencache.Version{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	expires := time.UnixMilli(1_800_000_000_123)
	for _, test := range []struct {
		record tokencache.Record
		want   string
	}{
		{tokencache.Record{Sealed: []byte("sealed"), Version: v, Expires: expires},
			"01000102030405060708090a0b0c0d0e0f000001a3185c507b7365616c6564"},
		{tokencache.Record{Version: v, Expires: expires}, "01000102030405060708090a0b0c0d0e0f000001a3185c507b"},
		{tokencache.Record{Version: v}, "01000102030405060708090a0b0c0d0e0f0000000000000000"},
	} {
		if got := hex.EncodeToString(encode(&test.record)); got != test.want {
			t.Errorf("encoded as %s, want %s", got, test.want)
		}
		b, _ := hex.DecodeString(test.want)
		got := decode(b)
		if got.Version != test.record.Version || !bytes.Equal(got.Sealed, test.record.Sealed) || !got.Expires.Equal(test.record.Expires) {
			t.Errorf("%s is decoded as another record", test.want)
		}
	}
	p := &Provider{prefix: defaultPrefix}
	n := tokencache.Name{Owner: "o", Partition: "p"}
	if got, want := p.keysOf(n), (keys{
		record: "coatcheck:{o}:r:p", mark: "coatcheck:{o}:m", index: "coatcheck:{o}:i", lease: "coatcheck:{o}:l:p",
	}); got != want {
		t.Errorf("keys %+v, want %+v", got, want)
	}
	change := "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0fo:p:"
	if got := encodeChange(n, v); got != change {
		t.Errorf("a change is told as %q", got)
	}
	before := tokencache.Version{7}
	for text, want := range map[string]tokencache.Version{
		change: {}, change + string(head(before)): before, change + "\x02" + string(before[:]): {}, change + "\x01\x07": {},
	} {
		got, ok := decodeChange(text)
		if !ok || got != (tokencache.Change{Name: n, Version: v, Replaced: want}) {
			t.Errorf("%q is decoded as %+v, %t", text, got, ok)
		}
	}
}

// Whatever is stored under our keys or published on our channel, it is no
// tombstone and nobody's version unless it was written as one.
func FuzzDecode(f *testing.F) {
	for _, r := range []tokencache.Record{
		{Version: tokencache.Version{1}},
		{Sealed: []byte("x"), Version: tokencache.Version{1}, Expires: time.UnixMilli(1)},
	} {
		f.Add(encode(&r))
	}
	f.Add([]byte("0123456789abcdefowner:partition"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		r := decode(b)
		ours := len(b) >= emptySize && b[0] == format
		switch {
		case !ours && (r.Version != tokencache.Version{} || r.Removed()):
			t.Error("a foreign value is taken for a record")
		case ours && !bytes.Equal(encode(&r), b):
			t.Error("a record is not what it was decoded from")
		}
		if c, ok := decodeChange(string(b)); ok && !bytes.HasPrefix(b, []byte(encodeChange(c.Name, c.Version))) {
			t.Error("a change is not what it was decoded from")
		}
	})
}

func TestLifeUntil(t *testing.T) {
	for left, want := range map[time.Duration]int64{
		-time.Hour: 0, -1: 0, 10 * time.Second: 10_000,
	} {
		if got := lifeUntil(time.Now().Add(left)); got > want || got < want-1000 {
			t.Errorf("%v: %d ms", left, got)
		}
	}
	if got := lifeUntil(time.Time{}); got != forever {
		t.Errorf("no expiry: %d ms", got)
	}
	for d, want := range map[time.Duration]int64{1: 1, time.Millisecond: 1, time.Millisecond + 1: 2} {
		if got := milliseconds(d); got != want {
			t.Errorf("%v: %d ms, want %d", d, got, want)
		}
	}
}
