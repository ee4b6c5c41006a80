package redis_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A lease whose reply was lost keeps nobody waiting until it runs out.
func TestLeaseInDoubt(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]testserver.Fault{
		"the reply is lost":      {DropReplies: true},
		"the request comes late": {Delay: 400 * time.Millisecond},
		"both hang":              {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NewRedis(t)
			proxy := testserver.NewProxy(t, s.Addr())
			here, there, n := onServer(t, proxy.Addr()), onServer(t, s.Addr()), newName()
			must(t, here.Ping(t.Context()))
			proxy.Set(fault)
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
				lease, err := here.Acquire(ctx, n, 10*time.Second)
				cancel()
				if err == nil || lease != nil || errors.Is(err, tokencache.ErrBusy) {
					t.Fatalf("lease %v, error %v", lease != nil, err)
				}
			}
			proxy.Heal()
			var lease tokencache.Lease
			eventually(t, 3*time.Second, "the lease is free", func() (free bool) {
				var err error
				lease, err = there.Acquire(t.Context(), n, 10*time.Second)
				return err == nil
			})
			// And what comes still later takes it from nobody.
			time.Sleep(500 * time.Millisecond)
			must(t, lease.Renew(t.Context(), 10*time.Second))
		})
	}
}

// A server that goes away with the reply may have granted the lease before, though
// it cannot be reached any more.
func TestLeaseInDoubtOfServerThatLeft(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t)
	proxy := testserver.NewProxy(t, s.Addr())
	client := connect(t, proxy.Addr())
	var door door
	client.(*redis.Client).AddHook(&door)
	here, there, n := newProvider(t, client, nil), onServer(t, s.Addr()), newName()
	must(t, here.Ping(t.Context()))
	_, err := there.Acquire(t.Context(), newName(), time.Second) // the server knows the script from now on
	must(t, err)
	door.shut.Store(true)
	proxy.Set(testserver.Fault{DropReplies: true})
	if _, err := here.Acquire(t.Context(), n, 10*time.Second); err == nil {
		t.Fatal("a lease without a reply")
	}
	proxy.Heal()
	door.shut.Store(false)
	eventually(t, 3*time.Second, "the lease is free", func() bool {
		_, err := there.Acquire(t.Context(), n, 10*time.Second)
		return err == nil
	})
}

// door refuses new connections while it is shut.
type door struct{ shut atomic.Bool }

func (d *door) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if d.shut.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return next(ctx, network, addr)
	}
}

func (d *door) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (d *door) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestLeaseNotAsked(t *testing.T) {
	s := testserver.NewRedis(t)
	p := onServer(t, s.Addr())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Acquire(ctx, newName(), time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// Close does not wait for what cannot be given back.
func TestCloseInDoubt(t *testing.T) {
	s := testserver.NewRedis(t)
	p := onServer(t, s.Addr())
	must(t, p.Ping(t.Context()))
	must(t, s.Pause())
	defer func() { _ = s.Resume() }()
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := p.Acquire(ctx, newName(), 10*time.Second)
		cancel()
		if err == nil {
			t.Fatal("a lease from a server that hangs")
		}
	}
	began := time.Now()
	must(t, p.Close(t.Context()))
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close took %v", took)
	}
	must(t, p.Close(t.Context()))
}
