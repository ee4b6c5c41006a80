package sql

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	modernc "modernc.org/sqlite"
)

// The errors of other drivers, as they declare them. The package's path has to tell
// that they are SQLite's, and here it does not, so that asInt and sqliteNumber are
// tried alone.
type (
	number8  uint8
	number16 uint16
	numberI  int

	fields  struct{ Code, ExtendedCode numberI } // mattn/go-sqlite3
	methods struct{}                             // ncruces/go-sqlite3
)

func (*methods) Code() number8          { return 5 }
func (*methods) ExtendedCode() number16 { return 517 }

func TestSQLiteCode(t *testing.T) {
	t.Parallel()
	if code := sqliteCode(fmt.Errorf("wrapped: %w", &modernc.Error{})); code != 0 {
		t.Errorf("modernc's zero error: %d", code)
	}
	if code := sqliteCode(errors.New("database is locked")); code != 0 {
		t.Errorf("another error: %d", code)
	}
	for want, v := range map[int]any{517: &methods{}, 261: fields{5, 261}, 13: &fields{13, 13}} {
		if got := sqliteNumber(reflect.ValueOf(v), "ExtendedCode"); got != want {
			t.Errorf("%T: %d, want %d", v, got, want)
		}
	}
	if got := sqliteNumber(reflect.ValueOf(fields{}), "Other"); got != 0 {
		t.Errorf("a field that is not there: %d", got)
	}
}
