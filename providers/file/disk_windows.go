package file

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

const openFlags = 0

// private leaves it to the access list that the user's data directory hands down: this
// user, administrators and the system.
func private(fs.FileInfo) error { return nil }

// syncDirectory does nothing: directories cannot be synced here.
func syncDirectory(*os.Root) {}

// rename tries for a second, as whoever reads the file at this moment, a virus scanner
// say, may keep it from being replaced.
func rename(root *os.Root, from, to string) error {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := root.Rename(from, to)
		busy := errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
		if !busy || time.Since(began) > time.Second {
			return err
		}
	}
}

func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func isReadOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }
