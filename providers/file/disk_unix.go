//go:build unix

package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openFlags keep the opening of a FIFO from waiting.
const openFlags = syscall.O_NONBLOCK

// private tells why others than this user may use what info describes.
func private(info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case !ok:
		return errors.New("its owner is not known")
	case int64(stat.Uid) != int64(os.Geteuid()):
		return fmt.Errorf("it belongs to user %d and this is user %d: use the program as its owner, or another directory", stat.Uid, os.Geteuid())
	case mode&0o077 != 0:
		return fmt.Errorf("its mode is %04o: take the rights of others away (chmod go-rwx)", mode)
	}
	return nil
}

// syncDirectory makes a new name in the directory last. Not every file system can.
func syncDirectory(root *os.Root) {
	if d, err := root.Open("."); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

func rename(root *os.Root, from, to string) error { return root.Rename(from, to) }

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
