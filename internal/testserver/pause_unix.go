//go:build unix

package testserver

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// pause stops the child without its knowing. When it returns, the child has
// stopped.
func (p *process) pause() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("testserver: pause: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return until(ctx, func() error {
		if !isStopped(p.cmd.Process.Pid) {
			return errors.New("testserver: the process does not stop")
		}
		return nil
	})
}

// resume lets the child go on.
func (p *process) resume() error {
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("testserver: resume: %w", err)
	}
	return nil
}
