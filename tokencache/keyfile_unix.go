//go:build unix

package tokencache

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openFlags keep the opening of a FIFO or a terminal from waiting or from
// taking it over.
const openFlags = syscall.O_NONBLOCK | syscall.O_NOCTTY

func checkAccess(info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("its owner is not known: %T", info.Sys())
	}
	return checkOwnerAndMode(int64(stat.Uid), int64(os.Geteuid()), info.Mode().Perm())
}

// checkOwnerAndMode takes the file's owner and the process' effective user.
func checkOwnerAndMode(owner, user int64, mode fs.FileMode) error {
	switch {
	case owner != user && owner != 0:
		return fmt.Errorf("user %d owns the key file and could change it: chown it to user %d, or to root", owner, user)
	case mode&0o077 != 0:
		return fmt.Errorf("others than its owner may use the key file (mode %04o): chmod 600; in Kubernetes, defaultMode: 0400", mode)
	}
	return nil
}

// syncDirectory makes a new name in the directory last. Not every file system
// can, nor may everybody who writes to a directory: it does what it can.
func syncDirectory(path string) {
	if d, err := os.Open(path); err == nil { // #nosec G304 -- the operator names the file
		_ = d.Sync()
		_ = d.Close()
	}
}
