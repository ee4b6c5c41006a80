//go:build unix && !linux

package testserver

import "syscall"

// quitWithParent does nothing here: a test that is killed leaves its servers.
func quitWithParent() *syscall.SysProcAttr { return nil }

// childrenOf finds none here: the children of a server that was killed notice it
// a moment later, and a paused server goes on with the connections it has.
func childrenOf(int) ([]int, error) { return nil, nil }

func hasEnded(int) bool { return true }

// removeSegment leaves it to the next start of the server, which finds it.
func removeSegment(int, int, int) bool { return false }
