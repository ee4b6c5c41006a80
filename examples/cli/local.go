package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// local is the server that is used without --issuer. Its state is in memory, and each
// command is a process: so it is a process of its own, which login starts, and which
// ends when nobody has asked it anything for a while.
type local struct {
	addr string
	tls  bool // for MSAL, which wants https
}

var errNotRunning = errors.New("the local server is not running")

const (
	probeTimeout = 3 * time.Second
	startTimeout = 10 * time.Second
)

func (c *commandLine) local() *local {
	if c.Client == "msal" {
		return &local{addr: cmp.Or(c.Addr, "127.0.0.1:8076"), tls: true}
	}
	return &local{addr: cmp.Or(c.Addr, "127.0.0.1:8075")}
}

func (l *local) base() string {
	if l.tls {
		return "https://" + l.addr
	}
	return "http://" + l.addr
}

// issuer is that of the server which the client is made for.
func (l *local) issuer() string {
	if l.tls {
		return l.base() + "/" + idp.DefaultTenant + "/v2.0"
	}
	return l.base()
}

// certificateFile is where a server with TLS leaves its certificate for other processes
// of the user.
func (l *local) certificateFile() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	name := "local-server-" + strings.NewReplacer(":", "-", "[", "", "]", "").Replace(l.addr) + ".pem"
	return filepath.Join(dir, "coatcheck-cli", name), nil
}

func (l *local) writeCertificate(c *x509.Certificate) error {
	path, err := l.certificateFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600)
}

// httpClient trusts the server's certificate, and goes through no proxy.
func (l *local) httpClient() (*http.Client, error) {
	t := &http.Transport{DisableKeepAlives: true}
	if l.tls {
		pool := x509.NewCertPool()
		path, err := l.certificateFile()
		if err != nil {
			return nil, err
		}
		b, err := os.ReadFile(path) //nolint:gosec // a path of this program's own
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		pool.AppendCertsFromPEM(b) // with none, nothing is trusted
		t.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &http.Client{Transport: t, Timeout: startTimeout}, nil
}

// probe returns nil if the server answers, errNotRunning if nobody listens, or a failure
// if it is somebody else who does.
func (l *local) probe(ctx context.Context) error {
	hc, err := l.httpClient()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.issuer()+"/.well-known/openid-configuration", nil)
	if err != nil {
		return err
	}
	resp, err := hc.Do(req)
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return errNotRunning
	}
	if err != nil {
		return l.taken(err)
	}
	defer resp.Body.Close()
	var metadata struct {
		Issuer string `json:"issuer"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&metadata)
	if err != nil || metadata.Issuer != l.issuer() {
		return l.taken(err)
	}
	return nil
}

func (l *local) taken(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &failure{
		exit: exitServer, code: "port_taken", err: err,
		what: "Another program answers at " + l.addr + ", where the local server should be.",
		hint: "Choose another port with --addr 127.0.0.1:PORT, or $COATCHECK_ADDR.",
	}
}

// ensure starts the server unless it runs.
func (l *local) ensure(ctx context.Context, u *ui, idle time.Duration) error {
	err := l.probe(ctx)
	if !errors.Is(err, errNotRunning) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	pid, err := l.start(ctx, idle)
	if err == nil {
		u.say("Started a local server at %s (process %d). It signs anybody in, and ends %s after the last request.", l.base(), pid, idle)
		return nil
	}
	if l.probe(ctx) == nil {
		return nil // another login was faster
	}
	return &failure{exit: exitServer, code: "local_server", what: sentence(err.Error()), hint: "Choose another port with --addr, or run \"serve\" to see more.", err: err}
}

// start runs this program as the server, and returns when it listens.
func (l *local) start(ctx context.Context, idle time.Duration) (pid int, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer func() { _ = out.Close() }()
	client := "xoauth2"
	if l.tls {
		client = "msal"
	}
	cmd := exec.Command(exe, "serve", "--addr="+l.addr, "--client="+client, "--idle="+idle.String()) //nolint:gosec,noctx // itself, to outlive ctx
	cmd.Args[0] = clientID
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "COATCHECK_PASSPHRASE") })
	cmd.Dir = os.TempDir() // keeps no other directory busy
	cmd.Stdout, cmd.Stderr = in, in
	detach(cmd)
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = out.SetReadDeadline(time.Now()) })
	defer stop()
	line, _ := bufio.NewReader(io.LimitReader(out, 4<<10)).ReadString('\n')
	if !strings.HasPrefix(line, listening) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, errors.New(cmp.Or(strings.TrimPrefix(strings.TrimSpace(line), "cli: "), "the local server did not start"))
	}
	pid = cmd.Process.Pid // Release forgets it
	return pid, cmd.Process.Release()
}
