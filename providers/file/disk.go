package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// disk is the directory of a cache and its files. Each operation opens the directory
// anew, and looks whether it is still this user's alone.
type disk struct{ dir, name string }

const (
	dataFile  = ".tokens"
	lockFile  = ".lock"
	leaseFile = ".leases"
	tempFile  = ".tmp"     // only whoever has the lock writes one
	keyLock   = ".keylock" // of the entry in the key store, in the default directory
)

func (d disk) path(suffix string) string { return filepath.Join(d.dir, d.name+suffix) }

// enter opens the directory. The error is fs.ErrNotExist if there is none.
func (d disk) enter() (*os.Root, error) {
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil {
		if err = private(info); err != nil {
			err = fmt.Errorf("%w: the directory %s: %w", ErrAccess, d.dir, err)
		}
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return root, nil
}

// create makes the directory, unless it is there.
func (d disk) create() error { return os.MkdirAll(d.dir, 0o700) }

// lock waits for a lock file until ctx ends, and makes it first if need be.
func (d disk) lock(ctx context.Context, suffix string) (unlock func(), err error) {
	if err := d.create(); err != nil {
		return nil, explain(err)
	}
	root, err := d.enter() // not to leave a lock where others may write
	if err != nil {
		return nil, explain(err)
	}
	_ = root.Close()
	l := flock.New(d.path(suffix), flock.SetFlag(os.O_RDONLY|os.O_CREATE|openFlags), flock.SetPermissions(0o600))
	switch ok, err := l.TryLockContext(ctx, lockPoll); {
	case ctx.Err() != nil && !ok:
		return nil, d.lockedOut(ctx, suffix)
	case err != nil:
		return nil, explain(err)
	}
	return func() { _ = l.Unlock() }, nil
}

func (d disk) lockedOut(ctx context.Context, suffix string) error {
	return fmt.Errorf("%w: it has the lock on %s: %w", ErrLocked, d.path(suffix), ctx.Err())
}

// open opens a file for reading.
func (d disk) open(suffix string) (*os.File, error) {
	root, err := d.enter()
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	f, err := root.OpenFile(d.name+suffix, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%w: %s is not a regular file", ErrAccess, d.path(suffix))
	default:
		if err = private(info); err != nil {
			err = fmt.Errorf("%w: %s: %w", ErrAccess, d.path(suffix), err)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// read returns at most limit bytes of a file.
func (d disk) read(suffix string, limit int64) ([]byte, error) {
	f, err := d.open(suffix)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, limit))
}

// replace puts a file in the place of the one there is, all or nothing. What should
// outlast a crash is synced; the caller has the lock.
func (d disk) replace(suffix string, b []byte, lasting bool) error {
	root, err := d.enter()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	temp := d.name + tempFile
	if err := write(root, temp, b, lasting); err != nil {
		_ = root.Remove(temp)
		return err
	}
	if err := rename(root, temp, d.name+suffix); err != nil {
		_ = root.Remove(temp)
		return err
	}
	if lasting {
		syncDirectory(root)
	}
	return nil
}

func write(root *os.Root, name string, b []byte, lasting bool) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a process that was killed
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && lasting {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// rehearse tells whether there is room for a file of that size. Its bytes are such that
// no file system makes less of them.
func (d disk) rehearse(size int) error {
	root, err := d.enter()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	temp, bytes := d.name+tempFile, make([]byte, size)
	_, _ = rand.Read(bytes) // never fails (crypto/rand, Go 1.24)
	err = write(root, temp, bytes, false)
	if removed := root.Remove(temp); err == nil {
		err = removed
	}
	return err
}

// setAside gives the file another name, which it returns. The caller has the lock.
func (d disk) setAside() (string, error) {
	root, err := d.enter()
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	base := d.name + ".aside-" + time.Now().UTC().Format("20060102T150405Z")
	name := base
	for i := 2; ; i++ {
		if _, err := root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("%s-%d", base, i)
	}
	if err := rename(root, d.name+dataFile, name); err != nil {
		return "", err
	}
	syncDirectory(root)
	return filepath.Join(d.dir, name), nil
}
