package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// process is a child that ends with this process where the system can do that.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the child has ended and been waited for
}

// startProcess runs a program that writes what it prints to a file.
func startProcess(output *os.File, program string, args ...string) (*process, error) {
	cmd := exec.CommandContext(context.Background(), program, args...) //nolint:gosec // programs are named by this package
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = dieWithParent()
	return startCommand(cmd)
}

// startCommand runs a command whose attributes say how it ends with its parent.
// The child's end is tied to the thread that made it, not to the process: so one
// goroutine keeps that thread for as long as the child lives.
func startCommand(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
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

// startAgain launches a server, and again while its port is taken.
func startAgain(launch func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	var final error
	err := until(ctx, func() error {
		err := launch()
		if errors.Is(err, errPortTaken) {
			return err
		}
		final = err
		return nil
	})
	return errors.Join(err, final)
}

// explainLog makes an error of what a server has printed last, without its
// password.
func explainLog(program, what, path, password string) error {
	log, err := os.ReadFile(path) //nolint:gosec // a file of a server's own directory
	if err != nil {
		return fmt.Errorf("testserver: %w", err)
	}
	text := strings.TrimSpace(string(log[max(0, len(log)-maxLog):]))
	if strings.Contains(text, "Address already in use") {
		return errPortTaken
	}
	if password != "" {
		text = strings.ReplaceAll(text, password, "[password]")
	}
	return fmt.Errorf("testserver: %s %s: %s", program, what, text)
}

// until calls ready every few milliseconds until it returns nil. When ctx ends
// first, it returns the last error that is not of that.
func until(ctx context.Context, ready func() error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
	}
}
