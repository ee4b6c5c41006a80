//go:build unix

package file_test

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/file"
)

// A FIFO in the place of the lock file does not keep anybody waiting for its other end.
func TestLockIsFIFO(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	mustMkdir(t, dir)
	if err := syscall.Mkfifo(filepath.Join(dir, "default.lock"), 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if p, err := file.Open(ctx, &file.Options{Dir: dir}); err == nil {
			_ = p.Close(ctx)
		}
	}()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("it waits beyond its deadline")
		if fd, err := syscall.Open(filepath.Join(dir, "default.lock"), syscall.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			_ = syscall.Close(fd)
		}
		<-ended
	}
}
