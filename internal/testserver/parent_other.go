//go:build !linux

package testserver

import "syscall"

// dieWithParent does nothing here: a test that is killed leaves its servers.
func dieWithParent() *syscall.SysProcAttr { return nil }

// isStopped trusts the signal.
func isStopped(int) bool { return true }
