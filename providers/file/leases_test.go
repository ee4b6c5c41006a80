package file_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A clock that is set back a little takes no lease away from who holds it; one that is
// set back by much leaves none behind for long.
func TestLeaseAndClock(t *testing.T) {
	t.Parallel()
	dir, _ := filled(t, file.Options{})
	p := open(t, &file.Options{Dir: dir})
	for back, want := range map[time.Duration]error{
		0: tokencache.ErrBusy, time.Second: tokencache.ErrBusy, time.Hour: nil,
	} {
		since := time.Now().Add(back)
		b64 := base64.StdEncoding.EncodeToString
		mustWrite(t, filepath.Join(dir, "default.leases"), fmt.Appendf(nil,
			`[{"owner":%q,"partition":%q,"holder":[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"since":%d,"until":%d}]`,
			b64([]byte("owner")), b64([]byte("x")), since.UnixNano(), since.Add(10*time.Second).UnixNano()))
		if _, err := p.Acquire(t.Context(), name("x"), time.Second); !errors.Is(err, want) {
			t.Errorf("set back by %v: %v", back, err)
		}
	}
}
