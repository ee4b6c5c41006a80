package testserver_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
)

// behind starts a server with a proxy in front of it.
func behind(t *testing.T) (*testserver.Redis, *testserver.Proxy) {
	t.Helper()
	s := testserver.NewRedis(t)
	return s, testserver.NewProxy(t, s.Addr())
}

func TestProxyForwards(t *testing.T) {
	s, p := behind(t)
	c := client(t, p.Addr())
	big := strings.Repeat("0123456789", 300_000)
	check(t, c.Set(t.Context(), "big", big, 0).Err())
	if got, err := c.Get(t.Context(), "big").Result(); got != big || err != nil {
		t.Errorf("%d bytes came back, %v, want %d", len(got), err, len(big))
	}
	r := dial(t, p.Addr())
	r.expect("PING", "+PONG")
	r.expect("QUIT", "+OK")
	r.expectEnd("", io.EOF)
	r = dial(t, p.Addr())
	r.expect("PING", "+PONG")
	check(t, s.Kill())
	r.expectEnd("", io.EOF)
	expectReset(t, p.Addr())
	check(t, s.Start())
	dial(t, p.Addr()).expect("PING", "+PONG")
}

// expectReset wants a new connection to be reset. It may be before Go has seen
// that it was made.
func expectReset(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%v, want a reset", err)
	}
}

// A client that goes is not left connected to the server.
func TestProxyEndsWithTheClient(t *testing.T) {
	s, p := behind(t)
	r := dial(t, p.Addr())
	r.expect("CLIENT SETNAME gone", "+OK")
	check(t, r.conn.Close())
	eventually(t, func() error {
		list, err := client(t, s.Addr()).ClientList(t.Context()).Result()
		if strings.Contains(list, "name=gone") {
			return errors.New("still connected")
		}
		return err
	})
}

func TestProxyCut(t *testing.T) {
	_, p := behind(t)
	r := dial(t, p.Addr())
	r.expect("PING", "+PONG")
	for range 3 {
		p.Set(testserver.Fault{Cut: true})
		p.Set(testserver.Fault{Cut: true})
		r.expectEnd("", io.EOF)
		refused(t, p.Addr())
		p.Heal()
		r = dial(t, p.Addr())
		r.expect("PING", "+PONG")
	}
}

func TestProxyHang(t *testing.T) {
	s, p := behind(t)
	before := dial(t, p.Addr())
	before.expect("PING", "+PONG")
	p.Set(testserver.Fault{Hang: true})
	before.send("INCR n")
	during := dial(t, p.Addr())
	during.send("INCR n")
	before.expectSilence()
	during.expectSilence()
	if n, err := client(t, s.Addr()).Exists(t.Context(), "n").Result(); n != 0 || err != nil {
		t.Errorf("a request got through: %d, %v", n, err)
	}
	p.Heal()
	for _, r := range []*raw{before, during} {
		if got, err := r.line(patience); got != ":1" && got != ":2" {
			t.Errorf("after healing: %q, %v", got, err)
		}
	}
}

// A proxy that hangs hides the end of the server too.
func TestProxyHangHidesTheEnd(t *testing.T) {
	s, p := behind(t)
	r := dial(t, p.Addr())
	r.expect("PING", "+PONG")
	p.Set(testserver.Fault{Hang: true})
	check(t, s.Kill())
	r.expectSilence()
	p.Heal()
	r.expectEnd("", io.EOF)
}

func TestProxyHalfOpen(t *testing.T) {
	s, p := behind(t)
	old := dial(t, p.Addr())
	old.expect("PING", "+PONG")
	p.Set(testserver.Fault{HalfOpen: true})
	dial(t, p.Addr()).expect("PING", "+PONG")
	old.send("SET k v")
	old.expectSilence()
	p.Heal()
	old.send("SET k v")
	old.expectSilence()
	if n, err := client(t, s.Addr()).Exists(t.Context(), "k").Result(); n != 0 || err != nil {
		t.Errorf("a request got through: %d, %v", n, err)
	}
	check(t, s.Kill())
	old.expectSilence() // not even this
	p.Set(testserver.Fault{Cut: true})
	old.expectEnd("", io.EOF)
}

func TestProxyDropReplies(t *testing.T) {
	s, p := behind(t)
	r := dial(t, p.Addr())
	r.expect("PING", "+PONG")
	p.Set(testserver.Fault{DropReplies: true})
	r.send("INCR n")
	r.expectEnd("", syscall.ECONNRESET)
	if n, err := client(t, s.Addr()).Get(t.Context(), "n").Int(); n != 1 || err != nil {
		t.Errorf("n = %d, %v, want 1: the request reaches the server", n, err)
	}
	other := dial(t, p.Addr())
	other.send("INCR n")
	other.expectEnd("", syscall.ECONNRESET)
}

// The command of a client that retries is carried out twice.
func TestProxyDropOneReply(t *testing.T) {
	_, p := behind(t)
	c := redis.NewClient(&redis.Options{Addr: p.Addr(), MaxRetries: 1})
	defer func() { _ = c.Close() }()
	check(t, c.Ping(t.Context()).Err())
	p.Set(testserver.Fault{DropReplies: true, Times: 1})
	if n, err := c.Incr(t.Context(), "n").Result(); n != 2 || err != nil {
		t.Errorf("n = %d, %v, want 2", n, err)
	}
}

func TestProxyResetAfter(t *testing.T) {
	_, p := behind(t)
	r := dial(t, p.Addr())
	r.expect("SET k 0123456789", "+OK")
	p.Set(testserver.Fault{ResetAfter: len("$10\r\n012345")})
	r.send("GET k")
	r.expectLine("$10")
	r.expectEnd("012345", syscall.ECONNRESET)
	r = dial(t, p.Addr())
	r.expect("PING", "+PONG") // 7 bytes of 11
	r.send("PING")
	r.expectEnd("+PON", syscall.ECONNRESET)
}

func TestProxyDelay(t *testing.T) {
	_, p := behind(t)
	r := dial(t, p.Addr())
	r.expect("PING", "+PONG")
	const delay = 50 * time.Millisecond
	p.Set(testserver.Fault{Delay: delay, Jitter: delay})
	begin := time.Now()
	r.expect("PING", "+PONG")
	if took := time.Since(begin); took < 2*delay {
		t.Errorf("took %s, want at least %s", took, 2*delay)
	}
	p.Set(testserver.Fault{Delay: time.Hour})
	r.send("PING")
	r.expectSilence()
	p.Heal()
	r.expectLine("+PONG")
}

func TestProxyChunks(t *testing.T) {
	_, p := behind(t)
	r := dial(t, p.Addr())
	p.Set(testserver.Fault{Chunk: 1, Delay: 5 * time.Millisecond})
	begin := time.Now()
	r.expect("ECHO 0123456789", "$10")
	r.expectLine("0123456789")
	pieces := len("ECHO 0123456789\r\n") + len("$10\r\n0123456789\r\n")
	if took, want := time.Since(begin), time.Duration(pieces)*5*time.Millisecond; took < want {
		t.Errorf("took %s, want at least %s", took, want)
	}
}

func TestProxyRetarget(t *testing.T) {
	_, p := behind(t)
	other := testserver.NewRedis(t)
	old := dial(t, p.Addr())
	old.expect("SET where first", "+OK")
	p.Retarget(other.Addr())
	r := dial(t, p.Addr())
	r.expect("EXISTS where", ":0")
	old.expect("EXISTS where", ":1")
}

// Nothing is left of connections in whatever state: the check for goroutines that
// are left would tell.
func TestProxyClose(t *testing.T) {
	for _, f := range []testserver.Fault{
		{}, {Cut: true}, {Hang: true}, {HalfOpen: true}, {Delay: time.Hour},
	} {
		_, p := behind(t)
		r := dial(t, p.Addr())
		r.expect("PING", "+PONG")
		p.Set(f)
		if !f.Cut {
			r.send("PING")
			dial(t, p.Addr()).send("PING")
		}
		check(t, p.Close())
		check(t, p.Close())
		p.Heal()
		refused(t, p.Addr())
	}
}
