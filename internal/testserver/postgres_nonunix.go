//go:build !unix

package testserver

import (
	"errors"
	"os/exec"
)

// account is who a server runs as: here always us.
type account struct {
	uid   int
	other bool
}

func serverAccount() (account, error)  { return account{}, nil }
func (account) own(string) error       { return nil }
func (account) command(*exec.Cmd)      {}
func (p *process) stop() error         { return errors.ErrUnsupported }
func (p *process) killFamily() error   { return p.kill() }
func (p *process) pauseFamily() error  { return errors.ErrUnsupported }
func (p *process) resumeFamily() error { return errors.ErrUnsupported }

func removeSegment(int, int, int) bool { return false }

type waker struct{}

func startWaker(*process) (*waker, error) { return nil, errors.ErrUnsupported }
func (*waker) end() error                 { return nil }
