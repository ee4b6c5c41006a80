package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// process is a child that ends with this process where the system can do that.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the child has ended and been waited for
}

// startProcess runs a program that writes what it prints to a file. The child's
// end is tied to the thread that made it, not to the process: so one goroutine
// keeps that thread for as long as the child lives.
func startProcess(output *os.File, program string, args ...string) (*process, error) {
	//nolint:gosec // programs are named by this package
	p := &process{cmd: exec.CommandContext(context.Background(), program, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.SysProcAttr = dieWithParent()
	started := make(chan error, 1)
	go func() {
		defer close(p.exited)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // it says how the child ended: mostly that it was killed
		}
	}()
	if err := <-started; err != nil {
		<-p.exited
		return nil, fmt.Errorf("testserver: %w", err)
	}
	return p, nil
}

// alive tells whether the child has not ended yet.
func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// kill ends the child, even one that is stopped, and waits for its end.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("testserver: kill: %w", err)
	}
	<-p.exited
	return nil
}

// until calls ready every few milliseconds until it returns nil, and returns its
// last error when ctx ends first.
func until(ctx context.Context, ready func() error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}
