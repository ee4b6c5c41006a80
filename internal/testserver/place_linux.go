package testserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a small file system (tmpfs) with a directory in it, made by [StartDisk]
// or [NewDisk]. It also ends when this process ends in any way.
type Disk struct {
	root  string
	last  *waker
	close func() error // once
}

// StartDisk makes a disk of so many bytes, rounded up to pages. It needs the right
// to mount: without it, the error is [fs.ErrPermission]. Root has the right where
// it is not taken away, and anybody has it under `unshare --map-root-user --mount`.
// The caller closes the disk.
func StartDisk(size int64) (*Disk, error) {
	root, err := os.MkdirTemp("", "coatcheck-disk-")
	if err != nil {
		return nil, fmt.Errorf("testserver: %w", err)
	}
	last, err := startLast(`umount -l "$1"; rmdir "$1"`, root)
	if err != nil {
		return nil, errors.Join(err, os.Remove(root))
	}
	d := &Disk{root: root, last: last}
	options := fmt.Sprintf("size=%d,mode=0700", size)
	if err := unix.Mount("coatcheck", root, "tmpfs", mountFlags, options); err != nil {
		return nil, errors.Join(fmt.Errorf("testserver: mount: %w", err), last.end(), os.Remove(root))
	}
	d.close = sync.OnceValue(d.unmount)
	if err := os.Mkdir(d.Dir(), 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("testserver: %w", err), d.Close())
	}
	return d, nil
}

const mountFlags = unix.MS_NOSUID | unix.MS_NODEV

// NewDisk is [StartDisk] for a test, which closes the disk when it ends, and is
// skipped where mounting is not permitted.
func NewDisk(t testing.TB, size int64) *Disk {
	t.Helper()
	return forTest(t, func() (*Disk, error) {
		d, err := StartDisk(size)
		if errors.Is(err, fs.ErrPermission) {
			t.Skip("run this test as root, or under unshare --map-root-user --mount:", err)
		}
		return d, err
	})
}

// Dir is an empty directory on the disk, only for this user.
func (d *Disk) Dir() string     { return filepath.Join(d.root, "files") }
func (d *Disk) ballast() string { return filepath.Join(d.root, "ballast") }

// Fill takes all the space that is left. Empty files can still be made.
func (d *Disk) Fill() error {
	f, err := os.OpenFile(d.ballast(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("testserver: %w", err)
	}
	page := make([]byte, os.Getpagesize())
	for err == nil {
		_, err = f.Write(page)
	}
	if errors.Is(err, unix.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// Free gives back what [Disk.Fill] took.
func (d *Disk) Free() error { return os.RemoveAll(d.ballast()) }

// ReadOnly makes the disk one that can only be read, or one that can be written
// again. It fails while a file on it is open for writing.
func (d *Disk) ReadOnly(on bool) error {
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | mountFlags)
	if on {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("", d.root, "", flags, ""); err != nil {
		return fmt.Errorf("testserver: mount: %w", err)
	}
	return nil
}

// Close removes the disk with all that is on it. Calling it again does nothing.
func (d *Disk) Close() error { return d.close() }

// unmount is done even while a file is open, which then ends with its disk.
func (d *Disk) unmount() error {
	if err := unix.Unmount(d.root, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("testserver: unmount: %w", err)
	}
	return errors.Join(d.last.end(), os.Remove(d.root))
}
