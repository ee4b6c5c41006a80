package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// Errors of [Open], and of every method of a [Provider]; a [tokencache.Cache] wraps
// them in [tokencache.ErrUnavailable]. Their texts are for the user of the program: they
// say what to do, and name files and no account.
var (
	// ErrKeyStore means that the operating system's store for keys does not answer:
	// there is none, or it is locked.
	ErrKeyStore = errors.New("file: the operating system's key store does not answer")
	// ErrKey means that the key there is does not open the file: the store was wiped, the
	// file is another user's or another machine's, or the passphrase is another one. The
	// file is left as it is.
	ErrKey = errors.New("file: the key of the token cache is not here")
	// ErrAccess means that others may read or change the file or its directory, or that
	// something else is in its place. Windows is not asked who may.
	ErrAccess = errors.New("file: others may use the token cache")
	// ErrLocked means that another process has had the lock for as long as the caller
	// could wait, and for ten seconds at most.
	ErrLocked = errors.New("file: another process is using the token cache")
)

// CorruptError means that the file was damaged, and has been set aside. Nothing is
// stored any more: the next access begins a new file, and users sign in again.
type CorruptError struct {
	// Path is where the damaged file is now.
	Path string
}

// Error names the file.
func (e *CorruptError) Error() string {
	return "file: the token cache was damaged and does not open; it was set aside as " + e.Path + ": sign in again"
}

var (
	errDamaged = errors.New("the file is damaged")
	errNewer   = errors.New("file: the token cache was written by a later release of this program: update it")
	errPlain   = errors.New("file: the token cache is not encrypted, which is refused: " +
		"set AllowUnencryptedStorage, and it is encrypted with the next change, or set it aside")
	errFull   = errors.New("file: the token cache is full: sign some accounts out")
	errClosed = errors.New("file: the provider is closed")
)

// explain adds to an error of the file system what it means and what to do.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case isFull(err):
		return fmt.Errorf("file: the disk is full, and the token cache is as it was: make room: %w", err)
	case isReadOnly(err):
		return fmt.Errorf("file: the disk is read-only, and the token cache is as it was: make it writable: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("file: this user may not use the token cache: check the owner and mode: %w", err)
	case errors.Is(err, ErrAccess), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("file: %w", err)
}
