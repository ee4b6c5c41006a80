package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// postgresDefaults are for servers that start quickly and are killed at will. The
// system keeps what was written to files when a process is killed, so nothing has
// to be forced to the disk: fsync is off. But what a commit waits for must have
// left the process (synchronous_commit), and a page whose write was cut short by
// the kill must be mended (full_page_writes). The memory that processes share
// comes from the server's directory, and so goes with it.
var postgresDefaults = []string{
	"listen_addresses = '" + loopback + "'",
	"unix_socket_directories = ''",
	"shared_buffers = 16MB",
	"dynamic_shared_memory_type = mmap",
	"fsync = off",
	"synchronous_commit = on",
	"full_page_writes = on",
	"jit = off",
	"log_min_error_statement = panic", // statements have secrets in them
}

// Postgres is a private PostgreSQL server, made by [StartPostgres] or
// [NewPostgres]. Its methods are safe for concurrent use.
type Postgres struct {
	template *postgresTemplate
	dir      string
	config   []string
	port     int

	mu     sync.Mutex // guards what follows
	proc   *process   // the first process; nil or ended while the server is down
	waker  *waker     // nil unless the server is paused
	closed bool
}

// StartPostgres starts a server on 127.0.0.1 that keeps what was committed when
// it is killed, though not when the machine crashes. The extra lines are
// settings of postgresql.conf, such as "max_connections = 20" or "shared_buffers
// = 128MB", and win over the defaults. They must not change the port, the
// address or the directories.
//
// The programs are those on the PATH, or else the newest version that is
// installed in a usual place. Where this process runs as root, the server runs
// as the user postgres, or nobody where there is none; its directory then is in
// /tmp if that user cannot enter the one that TMPDIR names. The first server of
// a process takes a second longer than the others. The caller closes the server.
func StartPostgres(config ...string) (*Postgres, error) { return startPostgres(config) }

// NewPostgres is [StartPostgres] for a test, which closes the server when it
// ends.
func NewPostgres(t testing.TB, config ...string) *Postgres {
	t.Helper()
	return forTest(t, func() (*Postgres, error) { return StartPostgres(config...) })
}

func startPostgres(config []string) (*Postgres, error) {
	template, err := templateOf()
	if err != nil {
		return nil, err
	}
	return template.start(config, template.write)
}

// start starts a server with what fill puts into its directory, and tries other
// ports when somebody was faster.
func (t *postgresTemplate) start(config []string, fill func(dir string) error) (*Postgres, error) {
	dir, err := t.privateDir()
	if err != nil {
		return nil, err
	}
	s := &Postgres{template: t, dir: dir, config: config}
	if err = fill(dir); err == nil {
		for range portTries {
			if err = s.configure(); err != nil {
				break
			}
			if err = s.launch(); !errors.Is(err, errPortTaken) {
				break
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// configure chooses a port and writes the configuration.
func (s *Postgres) configure() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.port = port
	lines := append([]string{fmt.Sprintf("port = %d", port)}, postgresDefaults...)
	text := strings.Join(append(lines, s.config...), "\n") + "\n"
	name := s.file("postgresql.conf")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		return fmt.Errorf("testserver: %w", err)
	}
	return s.template.account.own(name)
}

func (s *Postgres) file(name string) string { return filepath.Join(s.dir, name) }

// launch starts the server and waits until it takes connections. The error is
// errPortTaken if that is why it has ended.
func (s *Postgres) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed
	case s.upLocked():
		return errors.New("testserver: the server is running")
	}
	log, err := createLog(s.dir)
	if err != nil {
		return fmt.Errorf("testserver: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	proc, err := startCommand(s.template.command(s.dir, log, "postgres",
		"-D", s.file("data"), "-c", "config_file="+s.file("postgresql.conf")))
	if err != nil {
		return err
	}
	s.proc = proc
	if err := s.awaitReady(proc); err != nil {
		return errors.Join(err, s.killLocked())
	}
	return nil
}

// awaitReady waits until the server has recovered from whatever ended it last and
// has the port: it writes that to a file. Whoever answers on the port before might
// be another server.
func (s *Postgres) awaitReady(proc *process) error {
	ctx, cancel := context.WithTimeout(context.Background(), groupLimit)
	defer cancel()
	var ended error
	err := until(ctx, func() error {
		state := s.pidFile()
		if state.pid == proc.cmd.Process.Pid && state.status == "ready" {
			return nil
		}
		if !proc.alive() {
			ended = s.explain("has ended")
			return nil
		}
		return errors.New("it is not ready")
	})
	if err != nil {
		return fmt.Errorf("%w: %w", s.explain("does not get ready"), err)
	}
	return ended
}

func (s *Postgres) explain(what string) error {
	return explainLog("postgres", what, s.file("log"), s.template.password)
}

// pidFile is what the server writes about itself: its process, its segment of
// shared memory and, in the eighth line, its state.
type pidFile struct {
	pid, key, segment int
	status            string
}

func (s *Postgres) pidFile() (f pidFile) {
	text, err := os.ReadFile(s.file("data/postmaster.pid"))
	if err != nil {
		return f
	}
	lines := strings.Split(string(text), "\n")
	if f.pid, err = strconv.Atoi(lines[0]); err != nil || len(lines) < 8 {
		return f
	}
	if _, err := fmt.Sscan(lines[6], &f.key, &f.segment); err == nil {
		f.status = strings.TrimSpace(lines[7])
	}
	return f
}

// Addr is the address of the server, 127.0.0.1:port. It stays the same.
func (s *Postgres) Addr() string { return address(s.port) }

// URL is how a superuser connects to the server, with the password, which is
// random: do not print it. It stays the same.
func (s *Postgres) URL() string { return s.URLAt(s.Addr()) }

// URLAt is the [Postgres.URL] with another address, say that of a [Proxy], or
// with several that are separated by commas.
func (s *Postgres) URLAt(addr string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=disable", postgresUser, s.template.password, addr)
}

// Kill ends all processes of the server with SIGKILL and waits for their end.
// What was committed is kept. Killing a server that is down does nothing.
func (s *Postgres) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killLocked()
}

func (s *Postgres) killLocked() error {
	if s.proc == nil {
		return nil
	}
	err := s.proc.killFamily()
	return errors.Join(err, s.wakerEndLocked(), s.forget())
}

// forget removes what a killed server leaves: its segment of shared memory, and
// the file that tells of it. That file would keep the server from starting if
// somebody else had got the number of its process.
func (s *Postgres) forget() error {
	state := s.pidFile()
	if state.segment == 0 && state.key == 0 || !removeSegment(state.segment, state.key, s.template.account.uid) {
		return nil
	}
	if err := os.Remove(s.file("data/postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("testserver: %w", err)
	}
	return nil
}

// Stop shuts the server down in an orderly way, and waits for its end: sessions
// are told that an administrator ended them (57P01). Stopping a server that is
// down does nothing; one that is paused, or does not end within 30 seconds, is an
// error.
func (s *Postgres) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.upLocked():
		return nil
	case s.waker != nil:
		return errors.New("testserver: the server is paused")
	}
	if err := s.proc.stop(); err != nil {
		return err
	}
	select {
	case <-s.proc.exited:
		return nil
	case <-time.After(groupLimit):
		return s.explain("does not stop")
	}
}

// Start starts the server again after [Postgres.Kill] or [Postgres.Stop], with
// the same port, directory and configuration, and waits until it takes
// connections. The port may be taken for a moment: Start tries for at most 10
// seconds.
func (s *Postgres) Start() error { return startAgain(s.launch) }

// Pause stops all processes of the server (SIGSTOP): connections are accepted by
// the system and stay open, and nothing is answered until [Postgres.Resume].
func (s *Postgres) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.upLocked() {
		return errDown
	}
	if s.waker == nil {
		w, err := startWaker(s.proc)
		if err != nil {
			return err
		}
		s.waker = w
	}
	return s.proc.pauseFamily()
}

// Resume lets a paused server go on (SIGCONT). It then answers what has come
// meanwhile.
func (s *Postgres) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.upLocked() {
		return errDown
	}
	return errors.Join(s.proc.resumeFamily(), s.wakerEndLocked())
}

func (s *Postgres) wakerEndLocked() error {
	w := s.waker
	s.waker = nil
	return w.end()
}

func (s *Postgres) up() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upLocked()
}

func (s *Postgres) upLocked() bool { return s.proc != nil && s.proc.alive() }

// Close kills the server and removes its directory. Calling it again does
// nothing.
func (s *Postgres) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return errors.Join(s.killLocked(), os.RemoveAll(s.dir))
}
