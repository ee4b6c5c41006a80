package tokencache

import (
	"errors"
	"fmt"
	"testing"
)

// newKept returns an entry of the partition with about so many bytes.
func newKept(partition string, size int) *unsavedEntry {
	p := &Partition{key: AccountKey(partition)}
	return &unsavedEntry{p: p, st: &state{snap: &snapshot{plain: make([]byte, size)}}}
}

// What is kept is bounded in bytes, also when partitions are replaced by larger or
// smaller ones, and all of the room comes back.
func TestUnsavedBytesAreBounded(t *testing.T) {
	t.Parallel()
	const part = unsavedBytes / 8 // a snapshot counts about twice
	u := &unsaved{most: unsavedEntries}
	unit := newKept("", part).st.snap.size()
	for range 3 {
		var list []*unsavedEntry
		put := func(partition string, size int) error {
			e := newKept(partition, size)
			err := u.put(e)
			if err == nil {
				list = append(list, e)
			}
			return err
		}
		for i := range 3 {
			for range 3 { // in the place of the last
				if err := put(fmt.Sprint(i), part-1024); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := put("another", 2*part); !errors.Is(err, errUnsavedFull) {
			t.Errorf("got %v, want errUnsavedFull", err)
		}
		if err := put("0", 2*part); err != nil {
			t.Errorf("in the place of a smaller one: %v", err)
		}
		if u.size > unsavedBytes || u.size < 3*unit {
			t.Errorf("%d bytes are counted", u.size)
		}
		for _, e := range list { // the older ones have gone: nothing is to happen to the newer
			newest := u.get(e.p.key.id)
			if u.remove(e); newest != e && u.get(e.p.key.id) != newest {
				t.Error("an entry was removed for the sake of an older one")
			}
		}
		if u.size != 0 || u.count.Load() != 0 || len(u.entries) != 0 {
			t.Errorf("%d bytes in %d entries (%d) remain", u.size, len(u.entries), u.count.Load())
		}
	}
}
