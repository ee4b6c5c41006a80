package testserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// busConfig is the configuration, but for the address, of a bus that only its user
// may use, and that starts nothing by itself: no keyring, nothing that asks on a
// screen.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// Keyring is a person's session on a desktop: a private D-Bus, and on it
// gnome-keyring, a real Secret Service, with a keyring that is the default one
// and unlocked. It is made by [StartKeyring] or [NewKeyring]. There is no screen:
// nobody is asked for the password of a locked keyring, so that using it fails at
// once. [Keyring.Prompt] changes that. Its methods are safe for concurrent use.
type Keyring struct {
	daemon   string // the program
	dir      string
	password string
	bus      *process

	mu       sync.Mutex // guards what follows
	proc     *process   // of the keyring; ended while that is down
	prompter *dbus.Conn // nil without one
	closed   bool
}

// StartKeyring starts a session. The caller closes it.
func StartKeyring() (*Keyring, error) {
	bus, busErr := exec.LookPath("dbus-daemon")
	daemon, daemonErr := exec.LookPath("gnome-keyring-daemon")
	if err := errors.Join(busErr, daemonErr); err != nil {
		return nil, fmt.Errorf("testserver: %w", err)
	}
	dir, err := os.MkdirTemp("", "coatcheck-keyring-")
	if err != nil {
		return nil, fmt.Errorf("testserver: %w", err)
	}
	k := &Keyring{daemon: daemon, dir: dir, password: "marker-" + rand.Text()}
	if err := errors.Join(k.prepare(), k.startBus(bus)); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if err := k.Start(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// NewKeyring is [StartKeyring] for a test, which closes the session when it ends.
func NewKeyring(t testing.TB) *Keyring {
	t.Helper()
	return forTest(t, StartKeyring)
}

func (k *Keyring) file(name ...string) string {
	return filepath.Join(append([]string{k.dir}, name...)...)
}

func (k *Keyring) address() string {
	return "unix:path=" + dbus.EscapeBusAddressValue(k.file("bus"))
}

// prepare makes the directories of a user and the configuration of the bus.
func (k *Keyring) prepare() error {
	err := os.WriteFile(k.file("bus.conf"), fmt.Appendf(nil, busConfig, k.address()), 0o600)
	for _, name := range []string{"home", "run", "data", "config", "cache"} {
		err = errors.Join(err, os.Mkdir(k.file(name), 0o700))
	}
	if err != nil {
		return fmt.Errorf("testserver: %w", err)
	}
	return nil
}

// Env are the environment variables of a program in this session, for the
// [exec.Cmd.Env] of a child process, after those of this process. They lead to
// the bus, and to a home directory and the like of its own, which end with the
// session. See [Keyring.Use] for this process.
func (k *Keyring) Env() []string {
	return []string{
		"DBUS_SESSION_BUS_ADDRESS=" + k.address(),
		"HOME=" + k.file("home"),
		"XDG_RUNTIME_DIR=" + k.file("run"),
		"XDG_DATA_HOME=" + k.file("data"),
		"XDG_CONFIG_HOME=" + k.file("config"),
		"XDG_CACHE_HOME=" + k.file("cache"),
	}
}

// Use has this process work in the session until the test ends, which must not be
// a parallel one. The connection to the bus that dbus keeps for a process is
// closed before and after that.
func (k *Keyring) Use(t testing.TB) {
	t.Helper()
	for _, variable := range k.Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	closeShared()
	t.Cleanup(closeShared)
}

// closeShared closes the connection of the process. If there is none, it makes one.
func closeShared() {
	if conn, err := dbus.SessionBus(); err == nil {
		_ = conn.Close()
	}
}

// environment is what the daemons get: nothing of the session of whoever runs the
// tests.
func (k *Keyring) environment() []string {
	return append(k.Env(), "PATH="+os.Getenv("PATH"), "LC_ALL=C", "GSETTINGS_BACKEND=memory")
}

// run starts a daemon. What it prints goes to a file of its name.
func (k *Keyring) run(name, input, program string, args ...string) (*process, error) {
	log, err := os.Create(k.file(name + ".log"))
	if err != nil {
		return nil, fmt.Errorf("testserver: %w", err)
	}
	defer func() { _ = log.Close() }()                                 // the child has its own
	cmd := exec.CommandContext(context.Background(), program, args...) //nolint:gosec // programs are named by this package
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), log, log
	cmd.Env, cmd.Dir, cmd.SysProcAttr = k.environment(), k.dir, dieWithParent()
	return startCommand(cmd)
}

func (k *Keyring) startBus(program string) error {
	proc, err := k.run("bus", "", program, "--config-file="+k.file("bus.conf"), "--nofork", "--nopidfile", "--nosyslog")
	if err != nil {
		return err
	}
	k.bus = proc
	return k.await("dbus-daemon", "bus", proc, func(ctx context.Context) error {
		return k.onBus(ctx, func(*dbus.Conn) error { return nil })
	})
}

// Start starts the keyring again after [Keyring.Kill], unlocked and with all that
// was stored. If there is none any more, a new one is made, as at the login of a
// user. While the keyring runs, it returns an error.
func (k *Keyring) Start() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.startLocked()
}

func (k *Keyring) startLocked() error {
	switch {
	case k.closed:
		return errClosed
	case k.proc != nil && k.proc.alive():
		return errors.New("testserver: the keyring is running")
	}
	proc, err := k.run("keyring", k.password, k.daemon, "--foreground", "--unlock", "--components=secrets",
		"--control-directory="+k.file("run"))
	if err != nil {
		return err
	}
	k.proc = proc
	return k.await("gnome-keyring-daemon", "keyring", proc, func(ctx context.Context) error {
		return k.onBus(ctx, isUnlocked)
	})
}

// await waits until a daemon is ready, and ends it if it never is.
func (k *Keyring) await(program, name string, proc *process, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	var ended error
	err := until(ctx, func() error {
		err := ready(ctx)
		if err != nil && !proc.alive() {
			ended = explainLog(program, "has ended", k.file(name+".log"), k.password)
			return nil
		}
		return err
	})
	if err == nil {
		return ended
	}
	why := explainLog(program, "does not get ready", k.file(name+".log"), k.password)
	return errors.Join(fmt.Errorf("%w: %w", why, err), proc.kill())
}

// Kill ends the keyring with SIGKILL. The bus stays, without a Secret Service.
// Killing one that is down does nothing.
func (k *Keyring) Kill() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.killLocked()
}

func (k *Keyring) killLocked() error {
	if k.proc == nil {
		return nil
	}
	if err := k.proc.kill(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return k.onBus(ctx, func(conn *dbus.Conn) error {
		return until(ctx, func() error { return isGone(ctx, conn) }) // the bus notices a moment later
	})
}

// Pause stops the keyring (SIGSTOP): calls are not answered until
// [Keyring.Resume].
func (k *Keyring) Pause() error { return k.signal((*process).pause) }

// Resume lets a paused keyring go on. It then answers what has come meanwhile.
func (k *Keyring) Resume() error { return k.signal((*process).resume) }

func (k *Keyring) signal(send func(*process) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.proc == nil || !k.proc.alive() {
		return errDown
	}
	return send(k.proc)
}

// Wipe empties the keyring, as that of a user who has deleted it and logged in
// again: it is there, unlocked, and has nothing in it. For a moment it is down.
func (k *Keyring) Wipe() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.killLocked(); err != nil {
		return err
	}
	if err := os.RemoveAll(k.file("data", "keyrings")); err != nil {
		return fmt.Errorf("testserver: %w", err)
	}
	return k.startLocked()
}

// Close ends the keyring and the bus, and removes all that is theirs. Calling it
// again does nothing.
func (k *Keyring) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	var err error
	for _, proc := range []*process{k.proc, k.bus} {
		if proc != nil {
			err = errors.Join(err, proc.kill())
		}
	}
	if k.prompter != nil {
		_ = k.prompter.Close() // the bus is gone
	}
	return errors.Join(err, os.RemoveAll(k.dir))
}
