//go:build unix

package testserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// PublicDir is a directory that every user of the machine may enter and read, and
// only this one may write. A test's own [testing.T.TempDir] is closed to others as
// a whole, whatever the modes in it. It is removed when the test ends.
func PublicDir(t testing.TB) string {
	t.Helper()
	parent := os.TempDir()
	if !isPublic(parent) {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "coatcheck-public-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // it is public
		t.Fatal(err)
	}
	return dir
}

// isPublic tells whether everybody may enter a directory and all above it.
func isPublic(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

// AsOtherUser has a command that was not started yet run as another user of the
// machine, one without rights. The program is copied to where that user may read
// it, and gets a home directory of that user: it is in HOME, and is where the
// command runs unless it says where. The test is skipped unless it is run by root.
func AsOtherUser(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("run this test as root: it runs a process as another user")
	}
	who, err := accountOf("nobody")
	if err != nil {
		t.Fatal(err)
	}
	dir := PublicDir(t)
	program, home := filepath.Join(dir, "program"), filepath.Join(dir, "home")
	if err := errors.Join(copyProgram(program, cmd.Path), os.Mkdir(home, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := who.own(home); err != nil {
		t.Skip("run this test as a root that may be other users:", err)
	}
	cmd.Env = append(cmd.Environ(), "HOME="+home)
	cmd.Path = program
	if cmd.Dir == "" {
		cmd.Dir = home
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	//nolint:gosec // numbers of users are not negative
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid)}
}

// copyProgram copies a program for everybody. Meanwhile no process is started: it
// would have the copy open for writing for a moment, in which nobody can run it.
func copyProgram(to, from string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	source, err := os.Open(from) //nolint:gosec // what a test runs
	if err != nil {
		return fmt.Errorf("testserver: %w", err)
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755) //nolint:gosec // it is for everybody
	if err != nil {
		return fmt.Errorf("testserver: %w", err)
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Chmod(0o755), target.Close()) // whatever the umask
}
