package tokencache

import (
	"errors"
	"testing"
)

// A cursor is read back, or refused as a whole.
func FuzzMigrateCursor(f *testing.F) {
	for _, c := range []migrateCursor{{}, {At: "memory.a.b", There: 7}, {Phase: phaseJournal, At: "x", There: 1, Missing: 2}} {
		f.Add(c.text())
	}
	f.Add("cc-migrate-1.")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseMigrateCursor(text)
		if err != nil {
			if !errors.Is(err, ErrCursor) || c != (migrateCursor{}) {
				t.Errorf("error %v along with %+v", err, c)
			}
			return
		}
		if again, err := parseMigrateCursor(c.text()); err != nil || again != c {
			t.Errorf("%+v is read back as %+v, error %v", c, again, err)
		}
	})
}
