package testserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

// processes are all those of a server, the first one first.
func processes(t *testing.T, c *pgx.Conn) []int {
	t.Helper()
	rows, err := c.Query(t.Context(), "SELECT pid FROM pg_stat_activity")
	check(t, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	check(t, err)
	file := value[string](t, c, "SELECT pg_read_file('postmaster.pid')")
	first, err := strconv.Atoi(strings.SplitN(file, "\n", 2)[0])
	check(t, err)
	if len(pids) < 4 {
		t.Fatalf("%d processes, want more", len(pids))
	}
	return append([]int{first}, pids...)
}

// status is a line of /proc/pid/status, empty if there is no such process.
func status(pid int, name string) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(text), "\n"+name+":")
	line, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(line)
}

func running(pid int) bool {
	state := status(pid, "State")
	return state != "" && !strings.HasPrefix(state, "Z")
}

// A session that is computing when the server is killed does not outlive it.
func TestPostgresKillEndsAllProcesses(t *testing.T) {
	s := testserver.NewPostgres(t)
	c := connect(t, s.URL())
	busyLoop(t, s.URL())
	all := processes(t, c)
	segments := sharedSegments(t, all[0])
	if segments == 0 {
		t.Error("no segment of shared memory: the test would not see one that is left")
	}
	check(t, s.Kill())
	for _, pid := range all {
		if running(pid) {
			t.Errorf("process %d of the server is left", pid)
		}
	}
	if n := sharedSegments(t, all[0]); n != 0 {
		t.Errorf("%d segments of shared memory are left", n)
	}
	begin := time.Now()
	check(t, s.Start())
	t.Logf("recovered in %s", time.Since(begin))
}

// busyLoop keeps a session computing until the server ends.
func busyLoop(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(background())
	c := connect(t, url)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = c.Exec(ctx, "DO $$ BEGIN LOOP END LOOP; END $$") })
	t.Cleanup(func() { cancel(); wg.Wait() })
	other := connect(t, url)
	eventually(t, func() error {
		if value[int](t, other, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'") < 2 {
			return errors.New("the session does not begin")
		}
		return nil
	})
}

// sharedSegments counts the segments of shared memory that a process has made.
func sharedSegments(t *testing.T, pid int) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/sysvipc/shm")
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == strconv.Itoa(pid) {
			n++
		}
	}
	return n
}

// PostgreSQL refuses to run as root. A test that does not run as root needs no
// other user.
func TestPostgresIsNotRoot(t *testing.T) {
	s := testserver.NewPostgres(t)
	c := connect(t, s.URL())
	var data syscall.Stat_t
	check(t, syscall.Stat(value[string](t, c, "SHOW data_directory"), &data))
	for _, pid := range processes(t, c) {
		ids := strings.Fields(status(pid, "Uid") + " " + status(pid, "Gid"))
		for _, id := range ids {
			if id == "0" || os.Geteuid() != 0 && id != strconv.Itoa(os.Geteuid()) && id != strconv.Itoa(os.Getegid()) {
				t.Errorf("process %d runs as %v", pid, ids)
			}
		}
		if len(ids) != 8 || ids[0] != strconv.Itoa(int(data.Uid)) {
			t.Errorf("process %d runs as %v, its directory belongs to %d", pid, ids, data.Uid)
		}
		if groups := status(pid, "Groups"); os.Geteuid() == 0 && groups != "" {
			t.Errorf("process %d has our groups: %s", pid, groups)
		}
	}
}

// Whatever the server is doing, it ends with the process that started it.
func TestPostgresEndsWithTheProcess(t *testing.T) {
	testserver.NewPostgres(t) // skips where there is none
	for _, test := range []struct {
		name, mode string
		killed     bool
		user       uint32
	}{
		{"killed", "postgres", true, 0},
		{"ended", "postgres", false, 0},
		{"killed while the server is paused", "postgres paused", true, 0},
		{"killed, not as root", "postgres", true, 65534},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := temporary(t) // nobody removes what it leaves
			parent := exec.Command(os.Args[0])
			if test.user != 0 {
				runAs(t, parent, dir, test.user)
			}
			parent.Env = append(os.Environ(), childMode+"="+test.mode)
			parent.Stderr = os.Stderr
			in, err := parent.StdinPipe()
			check(t, err)
			out, err := parent.StdoutPipe()
			check(t, err)
			check(t, parent.Start())
			defer func() { _ = in.Close() }()
			lines := bufio.NewScanner(out)
			lines.Scan()
			location := lines.Text()
			busyLoop(t, location)
			all := processes(t, connect(t, location))
			_, err = in.Write([]byte("\n")) // it goes on, and pauses the server or not
			check(t, err)
			if !lines.Scan() {
				t.Fatal("the process has ended")
			}
			if paused := strings.HasPrefix(status(all[0], "State"), "T"); paused != strings.HasSuffix(test.mode, "paused") {
				t.Errorf("the server is paused: %t", paused)
			}
			if test.killed {
				check(t, parent.Process.Kill())
			} else {
				check(t, in.Close())
			}
			_ = parent.Wait()
			eventually(t, func() error {
				for _, pid := range all {
					if running(pid) {
						return fmt.Errorf("process %d of the server is left: %s", pid, status(pid, "State"))
					}
				}
				return nil
			})
			if n := sharedSegments(t, all[0]); n != 0 {
				t.Errorf("%d segments of shared memory are left", n)
			}
		})
	}
}

// runAs has a copy of this program run as another user, with a directory of its
// own.
func runAs(t *testing.T, cmd *exec.Cmd, dir string, user uint32) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	self, err := os.ReadFile("/proc/self/exe")
	check(t, err)
	cmd.Path = filepath.Join(dir, "program")
	check(t, os.WriteFile(cmd.Path, self, 0o755))
	own := filepath.Join(dir, "own")
	check(t, os.Mkdir(own, 0o700))
	check(t, os.Chown(own, int(user), int(user)))
	t.Setenv("TMPDIR", own)
	cmd.Dir = own
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
}
