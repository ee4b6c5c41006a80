package testserver_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

const smallDisk = 256 << 10

func write(path string, size int) error {
	return os.WriteFile(path, bytes.Repeat([]byte("x"), size), 0o600)
}

func expect(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestDiskIsFull(t *testing.T) {
	d := testserver.NewDisk(t, smallDisk)
	file := filepath.Join(d.Dir(), "file")
	check(t, write(file, smallDisk/2))
	expect(t, "more than there is", write(file, 2*smallDisk), syscall.ENOSPC)
	check(t, write(file, 1))
	check(t, d.Fill())
	check(t, d.Fill())
	expect(t, "another file on a full disk", write(file+"2", 1), syscall.ENOSPC)
	check(t, d.Free())
	check(t, d.Free())
	check(t, write(file+"2", smallDisk/2))
	if entries, err := os.ReadDir(d.Dir()); err != nil || len(entries) != 2 {
		t.Errorf("%d files, %v, want the two that were written", len(entries), err)
	}
}

func TestDiskIsReadOnly(t *testing.T) {
	d := testserver.NewDisk(t, smallDisk)
	file := filepath.Join(d.Dir(), "file")
	check(t, write(file, 10))
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	check(t, err)
	expect(t, "while a file is open", d.ReadOnly(true), syscall.EBUSY)
	check(t, f.Close())
	check(t, d.ReadOnly(true))
	check(t, d.ReadOnly(true))
	expect(t, "write", write(file, 1), syscall.EROFS)
	expect(t, "make a directory", os.Mkdir(file+".d", 0o700), syscall.EROFS)
	expect(t, "remove", os.Remove(file), syscall.EROFS)
	if content, err := os.ReadFile(file); err != nil || len(content) != 10 {
		t.Errorf("%d bytes, %v, want what was written before", len(content), err)
	}
	check(t, d.ReadOnly(false))
	check(t, write(file, 1))
	check(t, d.ReadOnly(true)) // closed as it is
}

func TestDiskClose(t *testing.T) {
	d := testserver.NewDisk(t, smallDisk)
	f, err := os.Create(filepath.Join(d.Dir(), "file"))
	check(t, err)
	defer func() { _ = f.Close() }()
	check(t, d.Close()) // whoever has a file open
	check(t, d.Close())
	check(t, diskIsGone(d.Dir()))
}

// A disk ends with the process that has made it, even if that is killed.
func TestDiskEndsWithProcess(t *testing.T) {
	testserver.NewDisk(t, smallDisk) // skips where it is not permitted
	cmd := testProgram(t, "disk")
	in, err := cmd.StdinPipe()
	check(t, err)
	defer func() { _ = in.Close() }()
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	check(t, err)
	dir := strings.TrimSpace(line)
	check(t, write(filepath.Join(dir, "file"), 1))
	check(t, cmd.Process.Kill())
	_ = cmd.Wait()
	eventually(t, func() error { return diskIsGone(dir) })
}

// diskIsGone returns nil if neither the directory of a disk nor its mount is left.
func diskIsGone(dir string) error {
	root := filepath.Dir(dir)
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the directory of a disk: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil && strings.Contains(string(mounts), root) {
		err = errors.New("the disk is mounted")
	}
	return err
}

func TestAsOtherUser(t *testing.T) {
	dir := testserver.PublicDir(t)
	for name, mode := range map[string]os.FileMode{"private": 0o600, "public": 0o644} {
		check(t, write(filepath.Join(dir, name), 1))
		check(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "public"):             "<nil>",
		filepath.Join(dir, "private"):            "permission denied",
		filepath.Join(t.TempDir(), "unreadable"): "permission denied", // not even that there is none
	} {
		cmd := testProgram(t, "read")
		cmd.Env = append(cmd.Env, "FILE="+path)
		testserver.AsOtherUser(t, cmd)
		out, err := cmd.CombinedOutput()
		check(t, err)
		if !strings.HasSuffix(strings.TrimSpace(string(out)), want) || strings.HasPrefix(string(out), "0 ") {
			t.Errorf("reading %s: %s, want %s for another user", path, out, want)
		}
	}
}

// testProgram is this program as a child.
func testProgram(t *testing.T, mode string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	check(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), childMode+"="+mode, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// linuxChild is a child of the tests of this system.
func linuxChild(mode string) (status int, known bool) {
	switch mode {
	case "keyring", "keyring get", "keyring set":
		return keyringChild(mode), true
	case "disk":
		return diskChild(), true
	case "read":
		return readChild(), true
	}
	return 0, false
}

// diskChild prints the directory of a disk, and leaves the disk.
func diskChild() int {
	d, err := testserver.StartDisk(smallDisk)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(d.Dir())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// readChild prints who it is, and whether it can read a file and write one at home.
func readChild() int {
	_, err := os.ReadFile(os.Getenv("FILE"))
	if home := write(filepath.Join(os.Getenv("HOME"), "file"), 1); home != nil {
		err = fmt.Errorf("at home: %w", home)
	}
	if _, here := os.Stat("file"); here != nil {
		err = fmt.Errorf("not at home: %w", here)
	}
	fmt.Println(os.Geteuid(), err)
	return 0
}
