package testserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	startLimit = 10 * time.Second // for a server to start, to restart or to stop
	pingLimit  = time.Second
	maxLog     = 4 << 10
)

var (
	errPortTaken = errors.New("testserver: the port is taken")
	errClosed    = errors.New("testserver: the server is closed")
	errDown      = errors.New("testserver: the server is down")
)

// Redis is a private redis-server process, made by [StartRedis] or [NewRedis].
// Its methods are safe for concurrent use.
type Redis struct {
	program  string
	args     []string // after the configuration file
	dir      string
	config   []string
	password string
	port     int

	mu     sync.Mutex // guards what follows
	proc   *process   // nil or ended while the server is down
	closed bool
}

// StartRedis starts a server that saves nothing and answers on 127.0.0.1 without
// a password. The extra lines are directives of redis.conf, such as "maxmemory
// 8mb" or "appendonly yes", and win over the defaults. They must not change the
// port, the directory or the Unix socket. The caller closes the server.
func StartRedis(config ...string) (*Redis, error) { return startRedis(nil, config) }

// NewRedis is [StartRedis] for a test, which closes the server when it ends.
func NewRedis(t testing.TB, config ...string) *Redis {
	t.Helper()
	return forTest(t, func() (*Redis, error) { return StartRedis(config...) })
}

// startRedis tries other ports when somebody was faster.
func startRedis(args, config []string) (*Redis, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("testserver: %w", err)
	}
	dir, err := os.MkdirTemp("", "coatcheck-redis-")
	if err != nil {
		return nil, fmt.Errorf("testserver: %w", err)
	}
	s := &Redis{program: program, args: args, dir: dir, config: config, password: passwordIn(config)}
	for range portTries {
		if err = s.configure(); err != nil {
			break
		}
		if err = s.launch(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// passwordIn finds the password that a configuration demands, for the check that
// the server is up.
func passwordIn(config []string) string {
	for _, line := range config {
		if name, value, _ := strings.Cut(line, " "); strings.EqualFold(name, "requirepass") {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// configure chooses a port and writes the configuration. It is written only once
// for a server that starts: Redis itself changes the file later on, say to
// remember of whom it is a replica.
func (s *Redis) configure() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.port = port
	lines := append([]string{
		fmt.Sprintf("port %d", port),
		"bind " + loopback,
		"protected-mode no",
		"unixsocket " + quoted(s.socket()),
		"dir " + quoted(s.dir),
		"daemonize no",
		"loglevel warning",
		"tcp-backlog 128",
		`save ""`,
		"appendonly no",
	}, s.config...)
	text := strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(s.file("redis.conf"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("testserver: %w", err)
	}
	return nil
}

func quoted(path string) string { return fmt.Sprintf("%q", path) }

func (s *Redis) file(name string) string { return filepath.Join(s.dir, name) }
func (s *Redis) socket() string          { return s.file("redis.sock") }

// launch starts the process and waits until it answers. The error is
// errPortTaken if that is why it has ended.
func (s *Redis) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed
	case s.upLocked():
		return errors.New("testserver: the server is running")
	}
	log, err := os.Create(s.file("log"))
	if err != nil {
		return fmt.Errorf("testserver: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	proc, err := startProcess(log, s.program, append([]string{s.file("redis.conf")}, s.args...)...)
	if err != nil {
		return err
	}
	s.proc = proc
	if err := s.awaitReady(proc); err != nil {
		return errors.Join(err, proc.kill())
	}
	return nil
}

// awaitReady waits until the process answers PING, and so has loaded its data.
func (s *Redis) awaitReady(proc *process) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	var ended error
	err := until(ctx, func() error {
		err := s.ping(ctx)
		if err != nil && !proc.alive() {
			ended = s.explain("has ended")
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", s.explain("does not get ready"), err)
	}
	return ended
}

// explain makes an error of what the server has printed last.
func (s *Redis) explain(what string) error {
	return explainLog("redis-server", what, s.file("log"), s.password)
}

// ping asks the server through its Unix socket: whoever answers on the port might
// be another server. Redis makes the socket after it has bound the port.
func (s *Redis) ping(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", s.socket())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(pingLimit)); err != nil {
		return err
	}
	request := "*1\r\n$4\r\nPING\r\n"
	if s.password != "" {
		request = fmt.Sprintf("*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n", len(s.password), s.password) + request
	}
	if _, err := conn.Write([]byte(request)); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		switch line := lines.Text(); {
		case line == "+PONG", strings.HasPrefix(line, "-NOAUTH"), strings.HasPrefix(line, "-NOPERM"):
			return nil // up, if not for us
		case strings.HasPrefix(line, "-LOADING"):
			return errors.New(line)
		}
	}
	return errors.Join(errors.New("testserver: no answer to PING"), lines.Err())
}

// Addr is the address of the server, 127.0.0.1:port. It stays the same.
func (s *Redis) Addr() string { return address(s.port) }

// Kill ends the server with SIGKILL and waits for its end. It saves nothing
// beyond what the configuration had it save. Killing a server that is down does
// nothing.
func (s *Redis) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killLocked()
}

func (s *Redis) killLocked() error {
	if s.proc == nil {
		return nil
	}
	return s.proc.kill()
}

// Start starts the server again after [Redis.Kill], with the same port, directory
// and configuration, and waits until it answers. The port may be taken for a
// moment: Start tries for at most 10 seconds.
func (s *Redis) Start() error { return startAgain(s.launch) }

// Pause stops the process (SIGSTOP): connections are accepted by the system and
// stay open, and nothing is answered until [Redis.Resume].
func (s *Redis) Pause() error { return s.signal((*process).pause) }

// Resume lets a paused server go on (SIGCONT). It then answers what has come
// meanwhile.
func (s *Redis) Resume() error { return s.signal((*process).resume) }

func (s *Redis) signal(send func(*process) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.upLocked() {
		return errDown
	}
	return send(s.proc)
}

func (s *Redis) up() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upLocked()
}

func (s *Redis) upLocked() bool { return s.proc != nil && s.proc.alive() }

// Close kills the server and removes its directory. Calling it again does
// nothing.
func (s *Redis) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return errors.Join(s.killLocked(), os.RemoveAll(s.dir))
}
