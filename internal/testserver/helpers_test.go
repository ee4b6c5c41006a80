package testserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

// childMode makes the test binary a program that starts a server and waits.
const childMode = "COATCHECK_TESTSERVER_CHILD"

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	switch mode := os.Getenv(childMode); mode {
	case "":
	case "postgres", "postgres paused":
		os.Exit(postgresChild(mode == "postgres paused"))
	default:
		if status, known := linuxChild(mode); known {
			os.Exit(status)
		}
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// child prints the address of its server and leaves it running until the parent
// lets go of the child's input, or kills it.
func child() int {
	s, err := testserver.StartRedis()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// postgresChild prints where its server is, waits for a line, pauses the server
// if told, and prints a line when it has. The rest is as above.
func postgresChild(pause bool) int {
	s, err := testserver.StartPostgres()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.URL())
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return 1
	}
	if pause {
		if err := s.Pause(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, in)
	return 0
}

// client is one that does not retry.
func client(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1, ReadTimeout: 5 * time.Second})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// eventually repeats f until it returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	err := errors.New("not called")
	for end := time.Now().Add(patience); err != nil; time.Sleep(5 * time.Millisecond) {
		if err = f(); err != nil && time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// raw is a connection that speaks Redis's inline protocol.
type raw struct {
	t    *testing.T
	conn net.Conn
	read *bufio.Reader
}

func dial(t *testing.T, addr string) *raw {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &raw{t: t, conn: conn, read: bufio.NewReader(conn)}
}

func (r *raw) send(command string) {
	r.t.Helper()
	_, err := io.WriteString(r.conn, command+"\r\n")
	check(r.t, err)
}

// line reads a line, for at most so long.
func (r *raw) line(limit time.Duration) (string, error) {
	r.t.Helper()
	check(r.t, r.conn.SetReadDeadline(time.Now().Add(limit)))
	line, err := r.read.ReadString('\n')
	return strings.TrimSuffix(line, "\r\n"), err
}

// expect sends a command and wants an answer of one line.
func (r *raw) expect(command, want string) {
	r.t.Helper()
	r.send(command)
	r.expectLine(want)
}

func (r *raw) expectLine(want string) {
	r.t.Helper()
	if got, err := r.line(patience); err != nil || got != want {
		r.t.Fatalf("answer %q, %v, want %q", got, err, want)
	}
}

// expectSilence wants neither data nor an end for a while.
func (r *raw) expectSilence() {
	r.t.Helper()
	if got, err := r.line(50 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatalf("answer %q, %v, want silence", got, err)
	}
}

// expectEnd wants the connection to end in this way, after this text.
func (r *raw) expectEnd(text string, how error) {
	r.t.Helper()
	if got, err := r.line(patience); got != text || !errors.Is(err, how) {
		r.t.Fatalf("answer %q, %v, want %q, %v", got, err, text, how)
	}
}

func background() context.Context { return context.Background() }
