//go:build !linux

package fleet

import (
	"syscall"
	"time"
)

// dieWithParent does nothing here: a child ends with its input.
func dieWithParent() *syscall.SysProcAttr { return nil }

// ticks is the clock on the wall, which is good as long as nobody sets it.
func ticks() int64 { return time.Now().UnixNano() }
