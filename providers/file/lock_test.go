package file_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/coatcheck-go/coatcheck/providers/file"
)

// Another process that has the lock, and was stopped say, is waited for until the
// caller's deadline. Who only reads does not wait.
func TestLocked(t *testing.T) {
	t.Parallel()
	dir, _ := filled(t, file.Options{})
	p := open(t, &file.Options{Dir: dir})
	other := flock.New(filepath.Join(dir, "default.lock"))
	if ok, err := other.TryLock(); !ok {
		t.Fatal(err)
	}
	for call, use := range map[string]func(context.Context) error{
		"save":    func(ctx context.Context) error { return p.Save(ctx, name("x"), record("marker-other"), always) },
		"acquire": func(ctx context.Context) error { _, err := p.Acquire(ctx, name("x"), time.Second); return err },
		"aside":   func(ctx context.Context) error { _, err := file.SetAside(ctx, &file.Options{Dir: dir}); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := use(ctx)
		cancel()
		if !errors.Is(err, file.ErrLocked) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", call, err)
		}
	}
	mustHold(t, open(t, &file.Options{Dir: dir}), name("x"), "marker-x")

	saved := make(chan error)
	go func() { saved <- p.Save(t.Context(), name("x"), record("marker-other"), always) }()
	time.Sleep(20 * time.Millisecond)
	if err := other.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-saved; err != nil {
		t.Error("it does not go on:", err)
	}
	mustHold(t, p, name("x"), "marker-other")
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
