package file_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/providers/file"
)

// An error says once that it is of this package.
func TestErrorsSayItOnce(t *testing.T) {
	t.Parallel()
	dir, _ := filled(t, file.Options{})
	mustRemove(t, filepath.Join(dir, "default.tokens"))
	mustMkdir(t, filepath.Join(dir, "default.tokens"))
	_, err := file.Open(t.Context(), &file.Options{Dir: dir})
	if !errors.Is(err, file.ErrAccess) || strings.Count(err.Error(), "file: ") != 1 {
		t.Error(err)
	}
}
