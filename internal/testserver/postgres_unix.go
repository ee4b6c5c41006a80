//go:build unix

package testserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is who a server runs as.
type account struct {
	uid, gid int
	other    bool // not us
}

// serverAccount is us, unless we are root: PostgreSQL refuses to run as root.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	return accountOf("postgres", "nobody")
}

// accountOf is the first of these users that exists and is not root.
func accountOf(names ...string) (account, error) {
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr == nil && gidErr == nil && uid > 0 {
			return account{uid: uid, gid: gid, other: true}, nil
		}
	}
	return account{}, fmt.Errorf("testserver: PostgreSQL does not run as root, and there is none of the users %q", names)
}

// own gives a file or a directory to the account.
func (a account) own(path string) error {
	if !a.other {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// command has a command run as the account and end with this process.
func (a account) command(cmd *exec.Cmd) {
	cmd.SysProcAttr = quitWithParent()
	if !a.other {
		return
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	//nolint:gosec // numbers of users are not negative
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// stop asks the server to shut down: it ends all sessions and writes everything
// to its files.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("testserver: stop: %w", err)
	}
	return nil
}

// killFamily ends the child and its children with SIGKILL, and waits for their
// end. The child is stopped first: it then makes no more, and cannot wait for
// those that have ended, so that nobody else gets their numbers.
func (p *process) killFamily() error {
	if !p.alive() {
		return nil
	}
	children, err := p.stopAndList()
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL) // it may have ended
	}
	if err := errors.Join(err, p.kill()); err != nil {
		return err
	}
	return p.awaitChildren(children, hasEnded, "end")
}

// pauseFamily stops the child and its children without their knowing.
func (p *process) pauseFamily() error {
	children, err := p.stopAndList()
	if err != nil {
		return err
	}
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGSTOP)
	}
	return p.awaitChildren(children, isStopped, "stop")
}

// resumeFamily lets all of them go on, the child last.
func (p *process) resumeFamily() error {
	children, err := childrenOf(p.cmd.Process.Pid)
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGCONT)
	}
	return errors.Join(err, p.resume())
}

func (p *process) stopAndList() ([]int, error) {
	if err := p.pause(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, err
	}
	return childrenOf(p.cmd.Process.Pid)
}

func (p *process) awaitChildren(children []int, done func(int) bool, what string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return until(ctx, func() error {
		for _, child := range children {
			if !done(child) {
				return fmt.Errorf("testserver: a process of the server does not %s", what)
			}
		}
		return nil
	})
}

// waker is a process that does a last thing when this process has ended, mostly to
// let a paused server go on: a server that is stopped cannot obey what the kernel
// then sends it.
type waker struct {
	proc  *process
	input io.Closer
}

func startWaker(p *process) (*waker, error) {
	return startLast(`kill -CONT "$1"`, strconv.Itoa(p.cmd.Process.Pid))
}

// startLast starts a process for a command of the shell and its argument. It waits
// for the end of its input, which comes in any case, or for its own, which comes
// from end. It is in a process group of its own, as the interrupt key must not end
// it.
func startLast(command, argument string) (*waker, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("testserver: %w", err)
	}
	defer func() { _ = read.Close() }()
	//nolint:gosec // commands are of this package, and the argument is none
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", "read -r line || { "+command+"; }", "sh", argument)
	cmd.Stdin, cmd.SysProcAttr = read, &syscall.SysProcAttr{Setpgid: true}
	proc, err := startCommand(cmd)
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	return &waker{proc: proc, input: write}, nil
}

// end ends the process without its doing anything.
func (w *waker) end() error {
	if w == nil {
		return nil
	}
	return errors.Join(w.proc.kill(), w.input.Close())
}
