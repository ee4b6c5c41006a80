package testserver

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// dieWithParent has the kernel kill the child when the thread that made it ends.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// isStopped tells whether a process does nothing any more: a signal to stop is
// acted upon a little later than it is sent.
func isStopped(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true // it has ended
	}
	_, after, _ := bytes.Cut(stat, []byte(") ")) // the name of the program is in brackets before
	return bytes.HasPrefix(after, []byte("T"))
}
