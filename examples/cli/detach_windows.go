package main

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// detach has a command outlive the console that this process was started from.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}
