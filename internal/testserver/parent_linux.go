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
	state, _ := processState(pid)
	return state == "T" || state == "Z" || state == ""
}

// processState is what /proc says of a process: a letter, Z for one that has
// ended and was not waited for, and who its parent is. The letter is empty if
// there is no such process.
func processState(pid int) (state string, parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	name := bytes.LastIndexByte(stat, ')') // the program's name is before, in brackets, and may have some itself
	if _, err := fmt.Sscan(string(stat[name+1:]), &state, &parent); err != nil {
		return "", 0
	}
	return state, parent
}
