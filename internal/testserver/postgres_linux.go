package testserver

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// quitWithParent has the kernel tell PostgreSQL to shut down at once when the
// thread that made it ends. Unlike SIGKILL, which only the first process would
// get, this also ends sessions that are busy, and gives shared memory back.
// Changing the user clears this; Go sets it after that.
func quitWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
}

// childrenOf are the processes that a process has made, those included that have
// ended and were not waited for.
func childrenOf(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // not a process
		}
		if _, parent := processState(child); parent == pid {
			children = append(children, child)
		}
	}
	return children, nil
}

// hasEnded tells whether a process is gone, but for being waited for.
func hasEnded(pid int) bool {
	state, _ := processState(pid)
	return state == "Z" || state == ""
}

// removeSegment removes a segment of shared memory that its last user left. It
// returns false while it is in use.
func removeSegment(id, key, uid int) bool {
	var segment unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &segment); err != nil {
		return true // there is none
	}
	if int(segment.Perm.Key) != key || int(segment.Perm.Uid) != uid {
		return true // another one with this number
	}
	if segment.Nattch > 0 {
		return false
	}
	_, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	return err == nil
}
