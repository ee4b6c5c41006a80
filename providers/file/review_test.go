package file_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Who has begun a file is not asked again for its passphrase when another process has
// written.
func TestPassphraseOnce(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	var asked atomic.Int64
	first := open(t, &file.Options{Dir: dir, Passphrase: func(context.Context) ([]byte, error) {
		asked.Add(1)
		return []byte("marker-passphrase"), nil
	}})
	if err := open(t, withPhrase(dir)).Save(t.Context(), name("x"), record("marker-x"), always); err != nil {
		t.Fatal(err)
	}
	mustHold(t, first, name("x"), "marker-x")
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}

// While one call waits for somebody to type a passphrase, others wait no longer than
// they like, and Close does not wait.
func TestAskingHoldsUpNobody(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	typed, asking := make(chan struct{}), make(chan struct{}, 10)
	var slow atomic.Bool
	p := open(t, &file.Options{Dir: dir, Passphrase: func(ctx context.Context) ([]byte, error) {
		if slow.Load() {
			asking <- struct{}{}
			<-typed
		}
		return []byte("marker-passphrase"), nil
	}})
	if _, err := file.SetAside(t.Context(), withPhrase(dir)); err != nil {
		t.Fatal(err)
	}
	open(t, withPhrase(dir)) // with another salt
	slow.Store(true)
	ended := make(chan error, 1)
	go func() {
		_, err := p.Load(t.Context(), name("x"))
		ended <- err
	}()
	<-asking
	within := func(what string, f func()) {
		done := make(chan struct{})
		go func() { f(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error(what, "waits for the passphrase of another call")
		}
	}
	within("Load", func() {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := p.Load(ctx, name("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	within("Close", func() { _ = p.Close(t.Context()) })
	close(typed)
	if err := <-ended; !errors.Is(err, tokencache.ErrNotFound) {
		t.Error(err)
	}
}

// The end of a context is not said to be another process's lock.
func TestCancelledIsNotLocked(t *testing.T) {
	t.Parallel()
	p := open(t, &file.Options{Dir: directory(t)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		err := p.Save(ctx, name("x"), record("marker-x"), always)
		if !errors.Is(err, context.Canceled) || errors.Is(err, file.ErrLocked) {
			t.Fatal(err)
		}
	}
}

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

// While one change waits for updated, others wait no longer than they like; a change
// that updated has panicked over has not happened.
func TestStreamUpdatedIsSlow(t *testing.T) {
	t.Parallel()
	busy, done := make(chan struct{}), make(chan struct{})
	what := func() { close(busy); <-done }
	stream := file.NewStream(func(context.Context, *file.Stream) error { what(); return nil })
	ended := make(chan error, 2)
	go func() { ended <- stream.Save(t.Context(), name("x"), record("marker-x"), always) }()
	<-busy
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	go func() { ended <- stream.Save(ctx, name("y"), record("marker-y"), always) }()
	select {
	case err := <-ended:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Save waits beyond its deadline")
		ended <- nil
	}
	close(done)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	what = func() { panic("a bug") }
	func() {
		defer func() { _ = recover() }()
		_ = stream.Save(t.Context(), name("x"), record("marker-other"), always)
	}()
	mustHold(t, stream, name("x"), "marker-x")
}

// A relative home directory would be another one after a chdir.
func TestRelativeHome(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("HOME", "home")
	t.Setenv("LocalAppData", "")
	t.Setenv("USERPROFILE", "home")
	t.Chdir(t.TempDir())
	if _, err := file.Open(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Options.Dir") {
		t.Error(err)
	}
}
