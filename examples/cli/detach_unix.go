//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// detach has a command outlive the terminal that this process was started from.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
