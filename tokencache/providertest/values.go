package providertest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func valueTests() []testCase {
	return []testCase{
		{"Contents", testContents},
		{"Largest", testLargest},
		{"FarTooLarge", testFarTooLarge},
		{"Names", testNames},
	}
}

// testContents holds what text columns, C strings and trimming would change.
func testContents(e *env) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, content := range [][]byte{
		{0},
		{'0'},
		{0xff},
		[]byte(" "),
		[]byte("\n"),
		[]byte("{}"),
		[]byte("null"),
		{0, 0, 0, 0},
		every,
		bytes.Repeat(every, 17),
		[]byte("text\x00behind a zero"),
		[]byte("\r\n text \r\n"),
	} {
		r := record(string(content))
		n := e.create(r)
		e.wantStored(ruleSave, e.p, n, r)
		e.wantStored(ruleReadYourWrites, e.peer, n, r)
	}
}

func testLargest(e *env) {
	for _, size := range []int{64 << 10, tokencache.MaxTokensSize, tokencache.MaxSealedSize} {
		n, r := newName(), recordOf(size)
		e.want(ruleTooLarge, e.p.Save(e.ctx, n, r, tokencache.Condition{}), nil, "Save of a size that is allowed")
		e.wantStored(ruleTooLarge, e.p, n, r)
		e.wantStored(ruleTooLarge, e.peer, n, r)
	}
}

// testFarTooLarge: to accept is fine and to refuse is fine; to truncate, to
// lose the former record, or to store what Load will not return is not.
func testFarTooLarge(e *env) {
	const size = 8 << 20
	n, old, huge := newName(), record("small"), recordOf(size)
	e.save(e.p, n, old, tokencache.Condition{})
	err := e.p.Save(e.ctx, n, huge, tokencache.IfVersion(old.Version))
	if err == nil {
		e.wantStored(ruleLoadTooLarge, e.p, n, huge)
		return
	}
	if !errors.Is(err, tokencache.ErrTooLarge) {
		e.broken(ruleTooLarge, "Save of %d bytes: got error %v, want nil or ErrTooLarge", size, err)
	}
	e.wantStored(ruleSave, e.p, n, old)
	e.wantStored(ruleSave, e.peer, n, old)
}

// testNames keeps one record under each of many names that a collation, a
// case-insensitive file system, a pattern or a prefix scan would confuse. All
// are base64url of 32 bytes, whose last character is one of sixteen, so that a
// provider may store the bytes instead.
func testNames(e *env) {
	base, owner := newHash()[:39], newHash()
	names := []tokencache.Name{
		{Owner: owner, Partition: base + "AAAE"}, {Owner: owner, Partition: base + "AAA8"},
	}
	for _, end := range []string{
		"AAA", "AAB", "aaa", "AaA", "AA-", "AA_", "-AA", "_AA", "A-A", "A_A",
		"zzz", "zzZ", "ZZZ", "000", "001", "010", "999", "---", "___", "-_-",
	} {
		names = append(names, tokencache.Name{Owner: owner, Partition: base + end + "A"})
	}
	for _, whole := range []string{"-", "_", "0", "A", "a", "Z", "z"} {
		names = append(names, tokencache.Name{Owner: owner, Partition: strings.Repeat(whole, 42) + "A"})
	}
	// The same for owners, with partitions of their own; see also testMarkOfAnother.
	for _, end := range []string{"AAA", "AAB", "aaa", "AA-", "AA_", "___", "---"} {
		names = append(names, tokencache.Name{Owner: base + end + "A", Partition: newHash()})
	}

	stored := make(map[tokencache.Name]tokencache.Record, len(names))
	for _, n := range names {
		r := record("content of " + n.Owner + " " + n.Partition)
		err := e.p.Save(e.ctx, n, r, tokencache.Condition{})
		e.want(ruleName, err, nil, "Save under a name beside others, "+n.Partition)
		stored[n] = r
	}
	e.save(e.p, names[0], tombstone(), tokencache.Always())
	for _, n := range names[1:] {
		e.wantStored(ruleName, e.peer, n, stored[n])
	}
}

// recordOf returns a record of size random bytes, which do not compress.
func recordOf(size int) tokencache.Record {
	r := tokencache.Record{Sealed: make([]byte, size), Version: tokencache.NewVersion()}
	_, _ = rand.Read(r.Sealed) // never fails (crypto/rand, Go 1.24)
	return r
}
