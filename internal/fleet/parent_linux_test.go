package fleet

import (
	"syscall"
	"unsafe"
)

// dieWithParent has the kernel kill a child when the thread that made it ends.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// ticks is a clock that all processes of a machine share and nobody sets, in
// nanoseconds (clock_gettime(2), CLOCK_MONOTONIC).
func ticks() int64 {
	const monotonic = 1
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic(errno)
	}
	return ts.Nano()
}
