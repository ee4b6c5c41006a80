package failures_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// testReplyLost has the server carry out a write and its reply be lost: once, so
// that the driver or the provider finds out by asking again, and so often that
// nobody but the Cache can. Whatever the write was, it has happened once.
func testReplyLost(t *testing.T, start func(*testing.T) *line) {
	writes := map[string]func(*replies, *testing.T){
		"sign-in":             (*replies).signIn,
		"save of a refresh":   func(r *replies, t *testing.T) { r.refresh(t, "save") },
		"lease":               func(r *replies, t *testing.T) { r.refresh(t, "acquire") },
		"lease given back":    func(r *replies, t *testing.T) { r.refresh(t, "release") },
		"lease renewed":       (*replies).renew,
		"expiry moved":        (*replies).touch,
		"tokens expired":      (*replies).expire,
		"sign-out":            (*replies).signOut,
		"mark of an owner":    func(r *replies, t *testing.T) { r.everywhere(t, "mark") },
		"owner's tombstone":   func(r *replies, t *testing.T) { r.everywhere(t, "save") },
		"list of an owner":    func(r *replies, t *testing.T) { r.everywhere(t, "list") },
		"sealed with new key": (*replies).reseal,
	}
	for name, write := range writes {
		for _, times := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d", name, times), func(t *testing.T) {
				t.Parallel()
				r := newReplies(t, start(t), times)
				write(r, t)
				if reused := r.server.reused(); reused > 0 {
					t.Error("a refresh token was used twice")
				}
			})
		}
	}
}

// line is a server, and how it is reached.
type line struct {
	addr    string
	connect func(*testing.T) tokencache.Provider
	// through reaches it at another address, with one connection at a time, which
	// dial makes, and with one round trip for each call.
	through func(t *testing.T, addr string, dial dialer) tokencache.Provider
}

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// replies is a machine whose replies are lost, and another that looks at what is
// stored.
type replies struct {
	line    *line
	times   int
	proxy   *testserver.Proxy
	dials   atomic.Int64
	armed   atomic.Pointer[string] // the call whose reply is to be lost
	lost    atomic.Int64
	server  *authority
	idle    time.Duration
	machine *tokencache.Cache
	other   *tokencache.Cache
	user    *user
}

func newReplies(t *testing.T, l *line, times int) *replies {
	t.Helper()
	r := &replies{
		line: l, times: times, proxy: testserver.NewProxy(t, l.addr), server: newAuthority(),
		idle: 4 * time.Second, user: &user{account: "user", lifetime: time.Hour},
	}
	options := &tokencache.Options{Keys: newKeys(t), IdleTimeout: r.idle}
	r.machine, r.other = newCache(t, r.lossy(t), options), newCache(t, l.connect(t), options)
	return r
}

// lossy returns a provider that loses replies.
func (r *replies) lossy(t *testing.T) tokencache.Provider {
	t.Helper()
	p := r.line.through(t, r.proxy.Addr(), func(ctx context.Context, network, addr string) (net.Conn, error) {
		r.dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	})
	return &tattler{Provider: p, before: r.before}
}

// lose has the replies of the next such call be lost.
func (r *replies) lose(call string) { r.armed.Store(&call) }

func (r *replies) before(call string) {
	if armed := r.armed.Load(); armed != nil && *armed == call && r.armed.CompareAndSwap(armed, nil) {
		r.lost.Store(r.dials.Load())
		r.proxy.Set(testserver.Fault{DropReplies: true, Times: r.times})
	}
}

// wasLost fails the test unless replies were, and has no more of them be.
func (r *replies) wasLost(t *testing.T) {
	t.Helper()
	eventually(t, "a reply was lost, and its connection", func() bool {
		return r.armed.Load() == nil && r.dials.Load() != r.lost.Load()
	})
	r.proxy.Heal() // of what is left to lose: a lease is asked for once
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *replies) begin(t *testing.T) {
	t.Helper()
	var err error
	r.user.ticket, err = r.other.SignIn(t.Context(), r.server.signIn(r.user.account, r.user.lifetime))
	must(t, err)
}

func (r *replies) partition(c *tokencache.Cache) *tokencache.Partition {
	return c.Partition(r.user.ticket.Key())
}

// another asks for a token that must come from the server.
func (r *replies) another(t *testing.T, c *tokencache.Cache) {
	t.Helper()
	began := time.Now()
	tok, err := r.partition(c).Token(t.Context(), tokencache.Request{Scopes: []string{scope}}, r.server)
	must(t, err)
	_, err = r.partition(c).Token(t.Context(), tokencache.Request{Scopes: []string{scope}, Refused: tok.AccessToken}, r.server)
	must(t, err)
	if took := time.Since(began); took > ownRefresh+slack {
		t.Errorf("it took %v", took)
	}
}

func (r *replies) signIn(t *testing.T) {
	r.lose("save")
	var err error
	r.user.ticket, err = r.machine.SignIn(t.Context(), r.server.signIn(r.user.account, r.user.lifetime))
	must(t, err)
	r.wasLost(t)
	r.another(t, r.other)
}

// refresh loses a reply on the way to a new token. The other machine can go on at
// once, and not only when a lease has run out.
func (r *replies) refresh(t *testing.T, call string) {
	r.begin(t)
	r.another(t, r.machine)
	r.lose(call)
	err := patiently(t.Context(), func() error { // a lease whose grant is in doubt is an outage
		tok, err := r.partition(r.machine).Token(t.Context(), tokencache.Request{Scopes: []string{scope}}, nil)
		if err == nil {
			_, err = r.partition(r.machine).Token(t.Context(),
				tokencache.Request{Scopes: []string{scope}, Refused: tok.AccessToken}, r.server)
		}
		return err
	})
	must(t, err)
	r.wasLost(t)
	r.another(t, r.other)
	r.another(t, r.machine)
}

func (r *replies) renew(t *testing.T) {
	r.begin(t)
	r.another(t, r.machine)
	r.lose("renew")
	slow := slowServer{r.server, 4 * time.Second} // longer than a third of a lease
	_, err := r.partition(r.machine).Token(t.Context(), tokencache.Request{Scopes: []string{"write"}}, slow)
	must(t, err)
	r.wasLost(t)
	r.another(t, r.other)
}

// touch waits until the partition's expiry is due to be moved.
func (r *replies) touch(t *testing.T) {
	r.begin(t)
	time.Sleep(r.idle / 4)
	r.lose("touch")
	must(t, r.partition(r.machine).Check(t.Context()))
	eventually(t, "the expiry is moved", func() bool { return r.armed.Load() == nil })
	time.Sleep(r.idle - r.idle/4 + r.idle/10) // it would be over
	r.wasLost(t)
	must(t, r.partition(r.other).Check(t.Context()))
}

func (r *replies) expire(t *testing.T) {
	r.begin(t)
	must(t, r.partition(r.machine).Check(t.Context()))
	r.lose("save")
	must(t, r.partition(r.machine).Expire(t.Context()))
	r.wasLost(t)
	before := r.server.current(r.user.account)
	eventually(t, "the other machine asks the server", func() bool { // once it has heard
		_, err := r.partition(r.other).Token(t.Context(), tokencache.Request{Scopes: []string{scope}}, r.server)
		must(t, err)
		return r.server.current(r.user.account) != before
	})
}

func (r *replies) signOut(t *testing.T) {
	r.begin(t)
	r.lose("save")
	must(t, r.partition(r.machine).SignOut(t.Context(), r.server))
	r.gone(t)
}

// everywhere loses a reply of one of the steps. A mark and a list are asked for
// once: that the answer is missing is told, and whoever repeats it succeeds.
func (r *replies) everywhere(t *testing.T, call string) {
	r.begin(t)
	r.lose(call)
	again := func() error { return r.partition(r.machine).SignOutEverywhere(t.Context(), r.server) }
	must(t, patiently(t.Context(), again))
	r.gone(t)
}

func (r *replies) gone(t *testing.T) {
	t.Helper()
	r.wasLost(t)
	for _, c := range []*tokencache.Cache{r.machine, r.other} {
		eventually(t, "the tokens are gone", func() bool {
			return errors.Is(r.partition(c).Check(t.Context()), tokencache.ErrNoTokens)
		})
	}
	_, err := r.machine.SignIn(t.Context(), r.server.signIn(r.user.account, r.user.lifetime))
	must(t, err)
}

// reseal has a machine that has got a new key load what was sealed with the old.
func (r *replies) reseal(t *testing.T) {
	old, fresh, names := randomKey(), randomKey(), randomKey()
	ring := func(keys ...[]byte) *tokencache.Options {
		sealed, err := tokencache.NewKeyRing(keys...)
		must(t, err)
		return &tokencache.Options{Keys: &tokencache.Keys{Names: names, Seal: sealed}}
	}
	r.other = newCache(t, r.line.connect(t), ring(old))
	r.machine = newCache(t, r.lossy(t), ring(fresh, old))
	r.begin(t)
	r.lose("save")
	must(t, r.partition(r.machine).Check(t.Context()))
	last := newCache(t, r.line.connect(t), ring(fresh))
	eventually(t, "it is sealed with the new key", func() bool {
		return r.partition(last).Check(t.Context()) == nil
	})
	r.wasLost(t)
	r.another(t, last)
}

// slowServer takes its time.
type slowServer struct {
	*authority
	takes time.Duration
}

func (s slowServer) Refresh(ctx context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	time.Sleep(s.takes)
	return s.authority.Refresh(ctx, rt, req)
}

// eventually waits for a moment in which the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to this:", what)
		}
	}
}
