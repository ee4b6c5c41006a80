package redis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// watch watches in the background until the test ends, and returns the changes.
func watch(t *testing.T, p *redisprovider.Provider) <-chan tokencache.Change {
	t.Helper()
	changes := make(chan tokencache.Change, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Watch(ctx, func(c tokencache.Change) { changes <- c }); !errors.Is(err, context.Canceled) {
			t.Error("Watch:", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return changes
}

// next waits for a change that is Missed, or is not.
func next(t *testing.T, changes <-chan tokencache.Change, limit time.Duration, missed bool) {
	t.Helper()
	late := time.After(limit)
	for {
		select {
		case c := <-changes:
			if c.Missed == missed {
				return
			}
		case <-late:
			t.Fatalf("no change with Missed %v within %v", missed, limit)
		}
	}
}

// Whatever becomes of the connection, there is a new one soon, and it begins with
// Missed.
func TestWatchReconnects(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault testserver.Fault
		limit time.Duration // from the moment of healing
	}{
		"cut":       {testserver.Fault{Cut: true}, time.Second},
		"half-open": {testserver.Fault{HalfOpen: true}, 4 * time.Second},
		"hung":      {testserver.Fault{Hang: true}, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NewRedis(t)
			proxy := testserver.NewProxy(t, s.Addr())
			var log journal
			p := newProvider(t, connect(t, proxy.Addr()), &redisprovider.Options{Log: log.logger()})
			changes, writer := watch(t, p), onServer(t, s.Addr())
			next(t, changes, time.Second, true)
			must(t, writer.Save(t.Context(), newName(), record("heard"), tokencache.Condition{}))
			next(t, changes, time.Second, false)

			proxy.Set(test.fault)
			must(t, writer.Save(t.Context(), newName(), record("not heard"), tokencache.Condition{}))
			if !test.fault.HalfOpen { // whose silence must be noticed by itself
				time.Sleep(3 * time.Second)
				proxy.Heal()
			}
			next(t, changes, test.limit, true)
			must(t, writer.Save(t.Context(), newName(), record("heard"), tokencache.Condition{}))
			next(t, changes, time.Second, false)
			if got := log.count("not heard of"); got != 1 {
				t.Errorf("%d warnings for one outage", got)
			}
		})
	}
}

// A server that is not there yet, or that forbids the channel, is asked again and
// again, and that is logged once.
func TestWatchWaits(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t, "user app on nopass ~* +@all resetchannels")
	var log journal
	c := connect(t, s.Addr(), func(o *redis.UniversalOptions) { o.Username, o.Password = "app", "any" })
	changes := watch(t, newProvider(t, c, &redisprovider.Options{Log: log.logger()}))
	time.Sleep(700 * time.Millisecond)
	if len(changes) > 0 || log.count("NOPERM") != 1 {
		t.Errorf("%d changes, %d warnings", len(changes), log.count("NOPERM"))
	}
	must(t, connect(t, s.Addr()).Do(t.Context(), "ACL", "SETUSER", "app", "allchannels").Err())
	next(t, changes, 2*time.Second, true)
}

func TestWatchEndsWithProvider(t *testing.T) {
	s := testserver.NewRedis(t)
	p := onServer(t, s.Addr())
	began, done := make(chan struct{}, 1), make(chan error, 1)
	go func() { done <- p.Watch(context.Background(), func(tokencache.Change) { began <- struct{}{} }) }()
	<-began
	must(t, p.Close(t.Context()))
	select {
	case err := <-done:
		if err == nil || errors.Is(err, context.Canceled) {
			t.Error("Watch of a provider that was closed:", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Watch goes on")
	}
}

// What others publish on the channel is not taken for a change.
func TestWatchForeignMessages(t *testing.T) {
	s := testserver.NewRedis(t)
	c := connect(t, s.Addr())
	p := newProvider(t, c, nil)
	changes := watch(t, p)
	next(t, changes, time.Second, true)
	for _, text := range []string{"", "x", "0123456789abcdef", "0123456789abcdefname", "0123456789abcdefowner:name"} {
		must(t, c.Publish(t.Context(), "coatcheck:changes", text).Err())
	}
	n, r := newName(), record("x")
	must(t, p.Save(t.Context(), n, r, tokencache.Condition{}))
	select {
	case got := <-changes:
		if got != (tokencache.Change{Name: n, Version: r.Version}) {
			t.Error("a message was taken for a change")
		}
	case <-time.After(time.Second):
		t.Fatal("no change")
	}
}

// A message that stops in the middle, for longer than Watch waits, is lost: the
// driver has read a part of it. That is told.
func TestWatchMessageInPieces(t *testing.T) {
	t.Parallel()
	for _, protocol := range []int{2, 3} {
		for _, head := range []int{1, 2, 3, 4} { // lines of the message that come in time
			t.Run(fmt.Sprintf("RESP%d, %d lines", protocol, head), func(t *testing.T) {
				t.Parallel()
				s := testserver.NewRedis(t)
				client := connect(t, s.Addr(), func(o *redis.UniversalOptions) { o.Protocol = protocol })
				client.(*redis.Client).AddHook(stutter(head))
				changes := watch(t, newProvider(t, client, nil))
				next(t, changes, time.Second, true)
				must(t, onServer(t, s.Addr()).Save(t.Context(), newName(), record("in pieces"), tokencache.Condition{}))
				next(t, changes, 4*time.Second, true)
			})
		}
	}
}

// stutter pauses once within a message, after that many of its lines.
type stutter int

func (lines stutter) DialHook(next redis.DialHook) redis.DialHook {
	var once atomic.Bool
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		return &stutterer{Conn: conn, lines: int(lines), once: &once}, err
	}
}

func (lines stutter) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (lines stutter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

type stutterer struct {
	net.Conn
	lines int
	once  *atomic.Bool
	rest  []byte
	goOn  time.Time

	deadline time.Time
}

func (c *stutterer) SetReadDeadline(t time.Time) error {
	c.deadline = t
	return c.Conn.SetReadDeadline(t)
}

func (c *stutterer) Read(b []byte) (int, error) {
	if len(c.rest) > 0 {
		time.Sleep(time.Until(c.goOn))
		if !c.deadline.IsZero() && c.deadline.Before(time.Now()) {
			return 0, os.ErrDeadlineExceeded
		}
		n := copy(b, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	if !bytes.Contains(b[:n], []byte("message")) || !c.once.CompareAndSwap(false, true) {
		return n, err
	}
	head := 0
	for range c.lines {
		head += bytes.IndexByte(b[head:n], '\n') + 1
	}
	c.rest, c.goOn = bytes.Clone(b[head:n]), time.Now().Add(1100*time.Millisecond)
	return head, nil
}
