package fleet

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A spy that sees nothing, and a dump that shows nothing, would find no secrets
// either: what is stored shows in both, however much else there is.
func TestSpiesSee(t *testing.T) {
	everyBackend(t, true, func(t *testing.T, s service) {
		p := providerOver(t, s.at())
		const parts = 20
		words := []string{"first in a record", "last in a record", "nowhere"}
		seen := s.spy(t, words)
		filler := strings.Repeat("\x00\xff\\'", 1<<14)
		for i := range parts {
			n := newName()
			words = append(words, n.Owner)
			r := tokencache.Record{Version: tokencache.NewVersion(), Expires: time.Now().Add(time.Hour), Sealed: []byte(filler)}
			switch i {
			case 0:
				r.Sealed = append([]byte(words[0]), r.Sealed...)
			case parts - 1:
				r.Sealed = append(r.Sealed, words[1]...)
			}
			check(t, p.Save(t.Context(), n, r, tokencache.Condition{}))
		}
		sent, found := seen()
		if want := []string{words[0], words[1]}; !slices.Equal(found, want) || sent < parts*len(filler) {
			t.Errorf("in %d bytes there were %q, want %q", sent, found, want)
		}
		dumped := s.dump(t)
		for _, word := range words {
			if got := bytes.Contains(dumped, []byte(word)); got == (word == "nowhere") {
				t.Errorf("%q is stored: %t", word, got)
			}
		}
	})
}
