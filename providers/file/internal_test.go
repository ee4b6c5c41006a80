package file

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Nobody obtains tokens for a cache that has no room for them, and what is no larger than
// before is stored also there.
func TestFullCache(t *testing.T) {
	t.Parallel()
	p, err := Open(t.Context(), &Options{Dir: filepath.Join(t.TempDir(), "coatcheck")})
	if err != nil {
		t.Fatal(err)
	}
	n := tokencache.Name{Owner: "owner", Partition: "0"}
	large := record{sealed: make([]byte, tokencache.MaxSealedSize), version: tokencache.NewVersion()}
	err = p.vault.change(t.Context(), func(d *document, _ time.Time) error {
		for i := 0; d.size() <= maxContent; i++ {
			d.records[tokencache.Name{Owner: "owner", Partition: strconv.Itoa(i)}] = large
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Acquire(t.Context(), n, time.Second); !errors.Is(err, errFull) {
		t.Error("acquire:", err)
	}
	next := tokencache.Record{Sealed: large.sealed, Version: tokencache.NewVersion()}
	if err := p.Save(t.Context(), n, next, tokencache.Always()); err != nil {
		t.Error("save of what is as large as before:", err)
	}
	n.Partition = "another"
	if err := p.Save(t.Context(), n, next, tokencache.Always()); !errors.Is(err, errFull) {
		t.Error("save:", err)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// The words for what is wrong with a store are those of its system, and do not tell
// somebody whose keyring is locked that there is none.
func TestStoreErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ goos, text, want, not string }{
		{"linux", "failed to unlock correct collection '/org/freedesktop/secrets/aliases/default'", "locked", "start gnome-keyring"},
		{"linux", "failed to unlock correct collection '/org/freedesktop/secrets/collection/login'", "locked", "no default"},
		{"linux", "exec: \"dbus-launch\": executable file not found in $PATH", "start gnome-keyring", "locked"},
		{"darwin", "exit status 36", "Keychain", "gnome-keyring"},
		{"windows", "A specified logon session does not exist.", "Credential Manager", "gnome-keyring"},
	} {
		err := storeError(tt.goos, errors.New(tt.text))
		if !errors.Is(err, ErrKeyStore) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), tt.not) {
			t.Errorf("%s, %s: %v", tt.goos, tt.text, err)
		}
	}
}

// What a call that was under way brings after Close is forgotten as well.
func TestForgetsAfterClose(t *testing.T) {
	t.Parallel()
	v := newVault(&Options{Dir: t.TempDir(), Name: "default"})
	v.close()
	v.keep(&view{}, &tokencache.KeyRing{})
	if v.seen.Load() != nil || v.ring.Load() != nil {
		t.Error("the tokens or the key are kept")
	}
}
