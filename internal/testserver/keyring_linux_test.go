package testserver_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/zalando/go-keyring"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

const (
	application = "coatcheck-test"
	itemName    = "data-key"
	itemValue   = "marker-data-key"
)

func set(t *testing.T) {
	t.Helper()
	check(t, keyring.Set(application, itemName, itemValue))
}

func expectItem(t *testing.T) {
	t.Helper()
	if value, err := keyring.Get(application, itemName); err != nil || value != itemValue {
		t.Fatalf("an item of %d bytes, %v, want what was stored", len(value), err)
	}
}

// expectNoItem wants the error that tells of a keyring which is open.
func expectNoItem(t *testing.T) {
	t.Helper()
	if _, err := keyring.Get(application, itemName); !errors.Is(err, keyring.ErrNotFound) {
		t.Fatalf("%v, want no such item", err)
	}
}

// expectClosed wants the error of a keyring that does not open, which is a text
// that ends with its path.
func expectClosed(t *testing.T, path string) {
	t.Helper()
	for _, err := range []error{getError(), keyring.Set(application, itemName, itemValue)} {
		if err == nil || !strings.HasSuffix(err.Error(), "failed to unlock correct collection '/org/freedesktop/secrets/"+path+"'") {
			t.Fatalf("%v, want that %s does not open", err, path)
		}
	}
}

func getError() error {
	_, err := keyring.Get(application, itemName)
	return err
}

func expectNoService(t *testing.T) {
	t.Helper()
	err, failed := errors.AsType[dbus.Error](getError())
	if !failed || err.Name != "org.freedesktop.DBus.Error.ServiceUnknown" {
		t.Fatalf("%v, want that there is no such service", err)
	}
}

func TestKeyringStates(t *testing.T) {
	k := testserver.NewKeyring(t)
	k.Use(t)
	expectNoItem(t)
	set(t)
	expectItem(t)

	check(t, k.Lock())
	expectClosed(t, "collection/login")
	check(t, k.Lock())
	check(t, k.Unlock())
	check(t, k.Unlock())
	expectItem(t)

	check(t, k.Kill())
	expectNoService(t)
	check(t, k.Kill())
	for name, call := range map[string]func() error{"Lock": k.Lock, "Unlock": k.Unlock, "Delete": k.Delete, "Pause": k.Pause} {
		if call() == nil {
			t.Errorf("%s of a keyring that is down succeeds", name)
		}
	}
	check(t, k.Start())
	expectItem(t)
	if k.Start() == nil {
		t.Error("a keyring that runs was started")
	}

	check(t, k.Wipe())
	expectNoItem(t)
	set(t)
	expectItem(t)

	check(t, k.Lock())
	check(t, k.Delete())
	expectClosed(t, "aliases/default")
	check(t, k.Wipe())
	expectNoItem(t)
	set(t)
}

// waits runs a call that waits until end makes it end. Its outcome is an error or
// a panic.
func waits(t *testing.T, call, end func() error) error {
	t.Helper()
	outcome := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				outcome <- fmt.Errorf("panic: %v", r)
			}
		}()
		outcome <- call()
	}()
	select {
	case err := <-outcome:
		t.Fatalf("%v at once, want that it waits", err)
	case <-time.After(500 * time.Millisecond):
	}
	check(t, end())
	select {
	case err := <-outcome:
		return err
	case <-time.After(patience):
		t.Fatal("it waits on")
		return nil
	}
}

func TestKeyringPause(t *testing.T) {
	k := testserver.NewKeyring(t)
	k.Use(t)
	set(t)
	check(t, k.Pause())
	check(t, waits(t, getError, k.Resume))
}

// A locked keyring asks on the screen, and waits. That the library panics when
// the session ends meanwhile is its own mistake.
func TestKeyringPrompt(t *testing.T) {
	k := testserver.NewKeyring(t)
	k.Use(t)
	check(t, k.Prompt())
	check(t, k.Prompt())
	set(t) // not asked for: it is open
	check(t, k.Lock())
	if err := waits(t, getError, k.Close); err == nil {
		t.Error("the item of a locked keyring in a session that has ended")
	}
	if k.Prompt() == nil || k.Start() == nil {
		t.Error("the session has ended, and goes on")
	}
}

// Keyrings do not know each other, and each process is in the one of its
// environment.
func TestKeyringsOfProcesses(t *testing.T) {
	a, b := testserver.NewKeyring(t), testserver.NewKeyring(t)
	if out := secretChild(t, a, "set"); out != "<nil>" {
		t.Fatal(out)
	}
	if out := secretChild(t, a, "get"); out != "<nil>" {
		t.Error("in the same session:", out)
	}
	if out := secretChild(t, b, "get"); out != keyring.ErrNotFound.Error() {
		t.Error("in another session:", out)
	}
}

// secretChild runs a process in the session, and returns the error that it has
// got.
func secretChild(t *testing.T, k *testserver.Keyring, what string) string {
	t.Helper()
	cmd := testProgram(t, "keyring "+what)
	cmd.Env = append(cmd.Env, k.Env()...)
	out, err := cmd.CombinedOutput()
	check(t, err)
	return strings.TrimSpace(string(out))
}

// The daemons end with the process that started them, even if that is killed.
func TestKeyringEndsWithProcess(t *testing.T) {
	testserver.NewKeyring(t) // skips where there is none
	cmd := testProgram(t, "keyring")
	cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir())
	in, err := cmd.StdinPipe()
	check(t, err)
	defer func() { _ = in.Close() }()
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	address, err := bufio.NewReader(out).ReadString('\n')
	check(t, err)
	pids := daemons(t, strings.TrimSpace(address))
	check(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for _, pid := range pids {
		eventually(t, func() error {
			if running(pid) {
				return fmt.Errorf("process %d of the session goes on", pid)
			}
			return nil
		})
	}
}

// daemons are the processes of the bus and of the keyring.
func daemons(t *testing.T, address string) [2]int {
	t.Helper()
	conn, err := dbus.Connect(address)
	check(t, err)
	var pids [2]int
	for i, name := range []string{"org.freedesktop.DBus", "org.freedesktop.secrets"} {
		check(t, conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, name).Store(&pids[i]))
		if !running(pids[i]) {
			t.Errorf("process %d does not run", pids[i])
		}
	}
	check(t, conn.Close())
	return pids
}

// keyringChild uses the session it is in, or prints the address of one of its own
// and leaves it running.
func keyringChild(mode string) int {
	switch mode {
	case "keyring set":
		fmt.Println(keyring.Set(application, itemName, itemValue))
		return 0
	case "keyring get":
		fmt.Println(getError())
		return 0
	}
	k, err := testserver.StartKeyring()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(strings.TrimPrefix(k.Env()[0], "DBUS_SESSION_BUS_ADDRESS="))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func TestKeyringClose(t *testing.T) {
	k := testserver.NewKeyring(t)
	k.Use(t)
	set(t)
	check(t, k.Close())
	check(t, k.Close())
	if err := getError(); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("%v, want that there is no bus", err)
	}
	if _, err := os.Stat(os.Getenv("XDG_DATA_HOME")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory: %v", err)
	}
}
