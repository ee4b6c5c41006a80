package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

// desk runs the program for a user whose key store is a real one, at a local server that
// login starts by itself. What the processes print stays here.
type desk struct {
	t      *testing.T
	env    []string
	addr   string // of the local server
	server int    // its process, which login has started
	said   string // on standard error, by the last process
}

func newDesk(t *testing.T, more ...string) *desk {
	t.Helper()
	s := &stage{}
	if err := s.freePort(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_DATA_HOME=" + filepath.Join(dir, "data"), "XDG_CACHE_HOME=" + filepath.Join(dir, "cache"),
		"COATCHECK_ADDR=" + s.addr, "COATCHECK_SERVER_IDLE=20s",
	}
	return &desk{t: t, env: append(env, more...), addr: s.addr}
}

// run returns what a command has printed, without the line's end.
func (d *desk) run(exit int, args ...string) string {
	d.t.Helper()
	return d.ended(startCLI(d.t, "", d.env, args...), exit, args)
}

func (d *desk) ended(p *process, exit int, args []string) string {
	d.t.Helper()
	code := p.wait()
	d.said = p.said()
	if m := startedServer.FindStringSubmatch(d.said); m != nil {
		d.server, _ = strconv.Atoi(m[1])
		d.t.Cleanup(func() {
			if server, err := os.FindProcess(d.server); err == nil {
				_ = server.Kill()
			}
		})
	}
	if code != exit {
		d.t.Fatalf("%q ended with exit code %d instead of %d: %s", args, code, exit, d.said)
	}
	return strings.TrimSuffix(p.stdout.String(), "\n")
}

var startedServer = regexp.MustCompile(`^Started a local server at https?://\S+ \(process (\d+)\)`)

// login signs in with a code that somebody enters elsewhere.
func (d *desk) login(user string, args ...string) {
	d.t.Helper()
	args = append([]string{"login", "--device"}, args...)
	p := startCLI(d.t, "", d.env, args...)
	if err := p.answer("approve", user); err != nil {
		d.t.Error(err)
	}
	d.ended(p, exitOK, args)
}

// want checks what was said on standard error.
func (d *desk) want(text string) {
	d.t.Helper()
	if !strings.Contains(d.said, text) {
		d.t.Errorf("said %q, without %q", d.said, text)
	}
}

// TestKeyring: one process signs in, others use it, with the key in a real Secret
// Service; and each trouble with that has its words, and costs nothing.
func TestKeyring(t *testing.T) {
	t.Parallel()
	k := testserver.NewKeyring(t)
	d := newDesk(t, k.Env()...)
	d.env = append(d.env, "XDG_DATA_HOME="+t.TempDir()) // the one of the keyring's session ends with it
	d.login("ada")
	d.want("Started a local server at http://127.")
	first := d.run(exitOK, "token")
	if first == "" || d.run(exitOK, "token") != first || d.said != "" {
		t.Errorf("two processes got different tokens, or one said something: %q", d.said)
	}
	if files := read(t, d.env); bytes.Contains(files, []byte(first)) || bytes.Contains(files, []byte("ada@")) {
		t.Error("what is stored can be read")
	}

	trouble := func(change func() error, exit int, what string) {
		t.Helper()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		d.run(exit, "token")
		d.want(what)
	}
	trouble(k.Lock, exitCache, "the keyring is locked: unlock it")
	trouble(k.Unlock, exitOK, "")
	trouble(k.Kill, exitCache, "there is none for this session: on Linux, install and start gnome-keyring")
	trouble(k.Start, exitOK, "")
	trouble(k.Wipe, exitCache, `"login --start-over" sets the file aside`)
	d.run(exitCache, "login", "--device")
	d.login("bob", "--start-over")
	d.want("The old token cache was set aside as ")
	if got := d.run(exitOK, "accounts"); got != "bob@contoso.test (bob)" {
		t.Errorf("signed in: %q", got)
	}
}

// read returns all files below the data directory.
func read(t *testing.T, env []string) (all []byte) {
	t.Helper()
	dir := ""
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "XDG_DATA_HOME="); ok {
			dir = value
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "coatcheck", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal("there is no file:", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// TestPassphrase is one in the environment. The local server does not get it.
func TestPassphrase(t *testing.T) {
	t.Parallel()
	const passphrase = "marker-the passphrase"
	d := newDesk(t, "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "COATCHECK_PASSPHRASE="+passphrase)
	d.login("ada")
	if environ, err := os.ReadFile("/proc/" + strconv.Itoa(d.server) + "/environ"); runtime.GOOS == "linux" &&
		(err != nil || !bytes.Contains(environ, []byte("COATCHECK_ADDR")) || bytes.Contains(environ, []byte(passphrase))) {
		t.Error("the server's environment has the passphrase, or cannot be read:", err)
	}
	name := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(name, []byte(passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.run(exitOK, "token")
	d.env = append(d.env, "COATCHECK_PASSPHRASE=marker-another")
	d.run(exitCache, "token")
	d.want("the passphrase is another one")
	if strings.Contains(d.said, "marker-") {
		t.Error("a passphrase was printed")
	}
	d.run(exitOK, "token", "--passphrase-file", name)
}

// TestDisk: one that takes nothing costs nothing.
func TestDisk(t *testing.T) {
	t.Parallel()
	disk := testserver.NewDisk(t, 1<<20)
	d := newDesk(t, "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "COATCHECK_ALLOW_UNENCRYPTED_STORAGE=1", "COATCHECK_DIR="+disk.Dir())
	d.login("ada")
	first := d.run(exitOK, "token")
	if err := disk.Fill(); err != nil {
		t.Fatal(err)
	}
	d.run(exitCache, "whoami", "--check")
	d.want("The disk is full, and the token cache is as it was: make room")
	if err := errors.Join(disk.Free(), disk.ReadOnly(true)); err != nil {
		t.Fatal(err)
	}
	if d.run(exitOK, "token") != first {
		t.Error("another token")
	}
	d.run(exitCache, "whoami", "--check")
	d.want("The disk is read-only, and the token cache is as it was: make it writable")
	if err := disk.ReadOnly(false); err != nil {
		t.Fatal(err)
	}
	d.run(exitOK, "whoami", "--check")
	d.run(exitOK, "logout")
}

// TestLocalServer: login starts the server, which outlives it, and serves whoever comes,
// until it ends. With MSAL it has a certificate.
func TestLocalServer(t *testing.T) {
	t.Parallel()
	for _, client := range []string{"xoauth2", "msal"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "COATCHECK_ALLOW_UNENCRYPTED_STORAGE=1", "COATCHECK_CLIENT="+client)
			d.run(exitSignIn, "token") // starts none
			d.login("ada")
			d.want("ends 20s after the last request")
			d.login("bob")
			if strings.Contains(d.said, "Started") {
				t.Error("there were two servers")
			}
			first := d.run(exitOK, "token", "--account=ada@contoso.test")
			d.run(exitOK, "whoami", "--check", "--account=ada@contoso.test")
			if d.run(exitOK, "token", "--account=ada@contoso.test") == first {
				t.Error("the token was not renewed")
			}
			d.endServer()
			d.run(exitSignIn, "whoami", "--check", "--account=ada@contoso.test")
			d.want("The local server has ended, and the sign-ins with it.")
			d.run(exitOK, "token", "--account=ada@contoso.test")
			d.run(exitOK, "logout", "--all")
		})
	}
}

// endServer ends the local server, and returns when it is gone.
func (d *desk) endServer() {
	d.t.Helper()
	server, err := os.FindProcess(d.server)
	if err == nil {
		err = server.Signal(os.Interrupt)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", d.addr); err == nil {
			_ = conn.Close()
			continue
		}
		return
	}
	d.t.Fatal("the server goes on")
}

// TestServe runs the server in the foreground, and begins it where another listens.
func TestServe(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	p := startCLI(t, "", d.env, "serve", "--token-lifetime=1m")
	l := &local{addr: d.addr}
	for deadline := time.Now().Add(10 * time.Second); l.probe(t.Context()) != nil && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	d.run(exitOther, "serve")
	d.want("cli: The local server cannot run: ")
	d.want("address already in use")
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != exitOK || !strings.HasPrefix(p.stdout.String(), listening+"http://127.") {
		t.Errorf("exit code %d, stdout %q", code, p.stdout.String())
	}
	d.run(exitUsage, "serve", "--idle=x")
	d.run(exitOK, "serve", "--idle=300ms") // ends by itself
}
