package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// TestScripts runs testdata/script. Beside the commands of testscript they have
//
//	server start [lifetime=TIME] [device=TIME]   the local server, at $COATCHECK_ADDR
//	server stop | revoke USER | interaction USER CLAIMS | fault ENDPOINT
//	cli EXIT ARGS...                             this program, which must exit so
//	login approve|deny|ignore|interrupt USER EXIT ARGS...
//	                                             login --device, and what the user does
//
// Of a token, stdout has TOKEN and a number, which is the same for the same token, so that no
// log has one. A token anywhere else fails the test.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": plain(func(ts *testscript.TestScript, args []string) { stageOf(ts).server(ts, args) }),
			"cli":    plain(func(ts *testscript.TestScript, args []string) { stageOf(ts).cli(ts, args) }),
			"login":  plain(func(ts *testscript.TestScript, args []string) { stageOf(ts).login(ts, args) }),
		},
	})
}

// plain is a command that cannot be negated.
func plain(do func(*testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) == 0 {
			ts.Fatalf("the command has arguments, and no !")
		}
		do(ts, args)
	}
}

// stage is what a script has.
type stage struct {
	idp    *idp.Server
	addr   string
	tokens map[string]string
}

type stageKey struct{}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

// setUp gives a script a user's directories, and a system without a key store: plain
// files do for most.
func setUp(env *testscript.Env) error {
	s := &stage{tokens: make(map[string]string)}
	if err := s.freePort(); err != nil {
		return err
	}
	env.Values[stageKey{}] = s
	for name, value := range map[string]string{
		"HOME": env.WorkDir, "XDG_DATA_HOME": env.WorkDir + "/data", "XDG_CACHE_HOME": env.WorkDir + "/cache",
		"DBUS_SESSION_BUS_ADDRESS": "unix:path=" + env.WorkDir + "/nonexistent",
		"COATCHECK_ADDR":           s.addr, "COATCHECK_ALLOW_UNENCRYPTED_STORAGE": "true",
		"GORACE": os.Getenv("GORACE"), "GOCOVERDIR": os.Getenv("GOCOVERDIR"),
	} {
		env.Setenv(name, value)
	}
	env.Defer(func() { _ = s.stop() })
	return nil
}

// freePort finds an address for the local server. Nobody listens there, nor does anybody
// get it while the server is stopped: on Linux each test has an address of its own.
func (s *stage) freePort() error {
	ip := "127.0.0.1"
	if runtime.GOOS == "linux" {
		ip = fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()>>8&0x7f, os.Getpid()&0xff, 1+addresses.Add(1)%250)
	}
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		return err
	}
	s.addr = l.Addr().String()
	return l.Close()
}

var addresses atomic.Uint32

func (s *stage) stop() error {
	if s.idp == nil {
		return nil
	}
	server := s.idp
	s.idp = nil
	return server.Close(context.Background())
}

func (s *stage) server(ts *testscript.TestScript, args []string) {
	switch args[0] {
	case "start":
		o := localOptions(10 * time.Minute)
		for _, a := range args[1:] {
			name, value, _ := strings.Cut(a, "=")
			d, err := time.ParseDuration(value)
			ts.Check(err)
			switch name {
			case "lifetime":
				o.TokenLifetime = d
			case "device":
				o.DeviceLifetime = d
			default:
				ts.Fatalf("unknown option %s", name)
			}
		}
		var err error
		s.idp, err = idp.Listen(s.addr, o)
		ts.Check(err)
		ts.Setenv("ISSUER", s.idp.URL())
	case "stop":
		ts.Check(s.stop())
	case "revoke":
		n, err := s.idp.RevokeUser(args[1])
		ts.Check(err)
		if n == 0 {
			ts.Fatalf("nothing was revoked")
		}
	case "interaction":
		ts.Check(s.idp.RequireInteraction(args[1], args[2]))
	case "fault":
		ts.Check(s.idp.Fault(idp.Fault{Endpoint: args[1], Status: 503, Times: 1000}))
	default:
		ts.Fatalf("unknown: server %s", args[0])
	}
}

func (s *stage) cli(ts *testscript.TestScript, args []string) {
	p := startCLI(ts, ts.MkAbs("."), environment(ts), args[1:]...)
	s.finish(ts, p, args[0], args[1:])
}

func (s *stage) login(ts *testscript.TestScript, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: login ANSWER USER EXIT ARGS...")
	}
	all := append([]string{"login", "--device"}, args[3:]...)
	p := startCLI(ts, ts.MkAbs("."), environment(ts), all...)
	ts.Check(p.answer(args[0], args[1]))
	s.finish(ts, p, args[2], all)
}

// finish waits for a process, compares its exit code, and shows what it has printed.
func (s *stage) finish(ts *testscript.TestScript, p *process, exit string, args []string) {
	code := p.wait()
	shown := s.redact(p.stdout.String())
	if strings.Contains(shown, "TOKEN") && args[0] != "token" {
		ts.Fatalf("a token was printed by %s", args[0])
	}
	if jwt.MatchString(p.said()) {
		ts.Fatalf("a token was printed to standard error")
	}
	_, _ = io.WriteString(ts.Stdout(), shown)
	_, _ = io.WriteString(ts.Stderr(), p.said())
	if strconv.Itoa(code) != exit {
		ts.Fatalf("%q ended with exit code %d instead of %s:\n%s%s", args, code, exit, shown, p.said())
	}
}

var jwt = regexp.MustCompile(`eyJ[A-Za-z0-9_.-]{20,}`)

// redact gives each token a name.
func (s *stage) redact(text string) string {
	return jwt.ReplaceAllStringFunc(text, func(token string) string {
		if s.tokens[token] == "" {
			s.tokens[token] = fmt.Sprintf("TOKEN%d", len(s.tokens)+1)
		}
		return s.tokens[token]
	})
}

// environment is that of the script.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "XDG_DATA_HOME", "XDG_CACHE_HOME", "DBUS_SESSION_BUS_ADDRESS", "BROWSER", "VISITOR", "SSH_CONNECTION", "DISPLAY",
		"COATCHECK_ADDR", "COATCHECK_ALLOW_UNENCRYPTED_STORAGE", "COATCHECK_PASSPHRASE", "COATCHECK_SCOPE", "GORACE", "GOCOVERDIR",
	} {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// fataler is a test, or a script.
type fataler interface {
	Fatalf(format string, args ...any)
}

// process is this program at work.
type process struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	stdout bytes.Buffer
	lines  chan string // of standard error
	read   chan struct{}

	mu     sync.Mutex
	stderr bytes.Buffer
}

// startCLI starts the program. A process that hangs is killed, and its exit code is -1.
func startCLI(t fataler, dir string, env []string, args ...string) *process {
	path, err := exec.LookPath(clientID)
	if err != nil {
		t.Fatalf("the program is not in PATH: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	p := &process{cmd: exec.CommandContext(ctx, path, args...), cancel: cancel, lines: make(chan string, 1000), read: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, env
	p.cmd.Stdout = &p.stdout
	r, w := io.Pipe()
	p.cmd.Stderr = w
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		cancel()
		t.Fatalf("%v", err)
	}
	go func() {
		defer close(p.read)
		defer close(p.lines)
		for scan := bufio.NewScanner(r); scan.Scan(); {
			p.mu.Lock()
			p.stderr.WriteString(scan.Text() + "\n")
			p.mu.Unlock()
			p.lines <- scan.Text()
		}
	}()
	go func() {
		_ = p.cmd.Wait() // the exit code tells
		_ = w.Close()    // ends what is read
	}()
	return p
}

// wait returns the exit code.
func (p *process) wait() int {
	<-p.read
	p.cancel()
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

var (
	deviceText = regexp.MustCompile(`Open (\S+) in any browser, and enter the code (\S+)`)
	deviceJSON = regexp.MustCompile(`"user_code":"([^"]+)".*"verification_uri":"([^"]+)"`)
)

// answer does what the user does who sees the code.
func (p *process) answer(answer, user string) error {
	for line := range p.lines {
		page, code := "", ""
		if m := deviceText.FindStringSubmatch(line); m != nil {
			page, code = m[1], m[2]
		} else if m := deviceJSON.FindStringSubmatch(line); m != nil {
			page, code = m[2], m[1]
		} else {
			continue
		}
		switch answer {
		case "ignore":
			return nil
		case "interrupt":
			return p.cmd.Process.Signal(os.Interrupt)
		}
		return enter(page, code, user, answer)
	}
	return nil // it has ended without a code; the exit code tells
}

// enter answers at the server's page, as a browser does.
func enter(page, code, user, answer string) error {
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 10 * time.Second}
	resp, err := hc.PostForm(page, url.Values{"user_code": {code}, "username": {user}, "answer": {answer}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the page answers with %s", resp.Status)
	}
	return nil
}

// visit is a browser: it signs in as the user by the server's form, and comes back to
// the program. The user named deny is one who refuses. The page that it ends at must
// tell the user what has happened.
func visit(authURL, user string) int {
	err := func() error {
		hc := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		u, err := url.Parse(authURL)
		if err != nil {
			return err
		}
		back := u.Query().Get("redirect_uri") + "?" + url.Values{
			"error": {"access_denied"}, "state": {u.Query().Get("state")}, "iss": {"http://" + u.Host},
		}.Encode()
		if user != "deny" {
			resp, err := hc.PostForm(authURL, url.Values{"username": {user}})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if back = resp.Header.Get("Location"); back == "" {
				return errors.New("not sent back: " + resp.Status)
			}
		}
		resp, err := hc.Get(back)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return nil
	}()
	if err != nil {
		return 1
	}
	return 0
}
