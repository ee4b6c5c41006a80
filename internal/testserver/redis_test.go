package testserver_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

func TestRedisKeepsNothingByDefault(t *testing.T) {
	s := testserver.NewRedis(t)
	c := client(t, s.Addr())
	check(t, c.Set(t.Context(), "k", "v", 0).Err())
	check(t, s.Kill())
	if err := c.Get(t.Context(), "k").Err(); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("a killed server: %v, want a network error", err)
	}
	check(t, s.Start())
	if err := c.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("after the restart: %v, want no such key", err)
	}
}

func TestRedisKeepsItsDirectory(t *testing.T) {
	s := testserver.NewRedis(t, "appendonly yes", "appendfsync always")
	addr := s.Addr()
	c := client(t, addr)
	for range 3 {
		check(t, c.Incr(t.Context(), "n").Err())
		check(t, s.Kill())
		check(t, s.Kill())
		check(t, s.Start())
	}
	if n, err := c.Get(t.Context(), "n").Int(); n != 3 || err != nil || s.Addr() != addr {
		t.Errorf("n = %d, %v at %s, want 3 at %s", n, err, s.Addr(), addr)
	}
}

func TestRedisTakesConfiguration(t *testing.T) {
	s := testserver.NewRedis(t, "maxmemory 8mb", "requirepass of-the-test")
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), Password: "of-the-test"})
	defer func() { _ = c.Close() }()
	got, err := c.ConfigGet(t.Context(), "maxmemory").Result()
	if err != nil || got["maxmemory"] != "8388608" {
		t.Errorf("maxmemory is %q, %v", got["maxmemory"], err)
	}
	if err := client(t, s.Addr()).Ping(t.Context()).Err(); err == nil {
		t.Error("the password is not required")
	}
	check(t, s.Kill())
	check(t, s.Start())
}

func TestRedisThatDoesNotStart(t *testing.T) {
	testserver.NewRedis(t) // skips where there is none
	_, err := testserver.StartRedis("requirepass of-the-test", "no-such-directive of-the-test")
	if err == nil || !strings.Contains(err.Error(), "no-such-directive") {
		t.Errorf("error %v, want what Redis says", err)
	}
	if err != nil && strings.Contains(err.Error(), "of-the-test") {
		t.Error("the error shows the password")
	}
}

func TestRedisPause(t *testing.T) {
	s := testserver.NewRedis(t)
	r := dial(t, s.Addr())
	r.expect("PING", "+PONG")
	check(t, s.Pause())
	check(t, s.Pause())
	r.send("PING")
	other := dial(t, s.Addr()) // the system accepts it
	other.send("PING")
	r.expectSilence()
	other.expectSilence()
	check(t, s.Resume())
	r.expectLine("+PONG")
	other.expectLine("+PONG")
	check(t, s.Pause())
	check(t, s.Kill())
	if err := s.Pause(); err == nil {
		t.Error("a server that is down was paused")
	}
}

func TestRedisClose(t *testing.T) {
	s := testserver.NewRedis(t)
	directory, err := client(t, s.Addr()).ConfigGet(t.Context(), "dir").Result()
	check(t, err)
	if err := s.Start(); err == nil {
		t.Error("a server that runs was started")
	}
	check(t, s.Close())
	check(t, s.Close())
	if _, err := os.Stat(directory["dir"]); directory["dir"] == "" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory %q: %v", directory["dir"], err)
	}
	if err := s.Start(); err == nil {
		t.Error("a closed server was started")
	}
	refused(t, s.Addr())
}

// Start waits for a port that somebody else uses for a moment, and does not take
// that somebody for the server.
func TestRedisPortTaken(t *testing.T) {
	s := testserver.NewRedis(t)
	check(t, s.Kill())
	var other net.Listener
	eventually(t, func() (err error) {
		other, err = net.Listen("tcp", s.Addr())
		return err
	})
	started := make(chan error)
	go func() { started <- s.Start() }()
	select {
	case err := <-started:
		t.Errorf("Start with a taken port: %v", err)
	case <-time.After(200 * time.Millisecond):
		check(t, other.Close())
		check(t, <-started)
	}
	dial(t, s.Addr()).expect("PING", "+PONG")
}

func TestRedisServersAreApart(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := testserver.StartRedis()
			if errors.Is(err, exec.ErrNotFound) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			c := redis.NewClient(&redis.Options{Addr: s.Addr()})
			if n, err := c.Incr(background(), "n").Result(); n != 1 || err != nil {
				t.Errorf("n = %d, %v, want 1", n, err)
			}
			if err := errors.Join(c.Close(), s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// The kernel ends a child together with the thread that made it. A server must
// not notice that Go has ended the thread of whoever asked for it.
func TestRedisOutlivesTheThread(t *testing.T) {
	testserver.NewRedis(t) // skips where there is none
	started := make(chan *testserver.Redis)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		s, err := testserver.StartRedis()
		if err != nil {
			t.Error(err)
		}
		started <- s
	}()
	s := <-started
	if s == nil {
		return
	}
	defer func() { check(t, s.Close()) }()
	r := dial(t, s.Addr())
	for range 10 {
		time.Sleep(5 * time.Millisecond)
		r.expect("PING", "+PONG")
	}
}

func TestRedisEndsWithTheProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends children with their parent")
	}
	testserver.NewRedis(t) // skips where there is none
	for _, killed := range []bool{true, false} {
		t.Run(fmt.Sprintf("killed=%t", killed), func(t *testing.T) {
			parent := exec.Command(os.Args[0])
			parent.Env = append(os.Environ(), childMode+"=1", "TMPDIR="+t.TempDir()) // nobody removes what it leaves
			parent.Stderr = os.Stderr
			in, err := parent.StdinPipe()
			check(t, err)
			out, err := parent.StdoutPipe()
			check(t, err)
			check(t, parent.Start())
			defer func() { _ = in.Close() }()
			addr, err := bufio.NewReader(out).ReadString('\n')
			check(t, err)
			addr = strings.TrimSpace(addr)
			dial(t, addr).expect("PING", "+PONG")
			if killed {
				check(t, parent.Process.Kill())
			} else {
				check(t, in.Close())
			}
			_ = parent.Wait()
			refused(t, addr)
		})
	}
}

func TestNewRedisWithoutRedis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := testserver.StartRedis(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("StartRedis: %v, want exec.ErrNotFound", err)
	}
	for variable, want := range map[string]string{"": "skip", "1": "fail"} {
		t.Setenv("COATCHECK_REQUIRE_SERVERS", variable)
		fake := &fakeT{TB: t}
		var wg sync.WaitGroup
		wg.Go(func() { testserver.NewRedis(fake) })
		wg.Wait()
		if fake.outcome != want {
			t.Errorf("with COATCHECK_REQUIRE_SERVERS=%q: %q, want %q", variable, fake.outcome, want)
		}
	}
}

// fakeT notes whether the test would be skipped or fail.
type fakeT struct {
	testing.TB
	outcome string
}

func (f *fakeT) Skip(...any)  { f.outcome = "skip"; runtime.Goexit() }
func (f *fakeT) Fatal(...any) { f.outcome = "fail"; runtime.Goexit() }

// refused waits until nobody listens at an address.
func refused(t *testing.T, addr string) {
	t.Helper()
	eventually(t, func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return errors.New("connected to " + addr)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		return nil
	})
}
