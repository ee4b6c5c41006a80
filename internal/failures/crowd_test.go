package failures_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

const scope = "read"

// How many users there are of each kind.
const (
	idlers    = 18 // have a token that is valid for an hour
	expiring  = 12 // have one that is valid for two to three seconds
	refusals  = 6  // are refused by the API over and over, and want another token
	strangers = 4  // idlers who also ask a machine that has no copies
)

// user is one of the crowd. Their account tells nothing of anybody.
type user struct {
	account  string
	lifetime time.Duration
	ticket   tokencache.Ticket
}

// crowd is the users, their authorization server and the machines that they use.
type crowd struct {
	server   *authority
	machines []*tokencache.Cache
	cold     *tokencache.Cache // a machine without copies in memory
	idle     []*user
	expire   []*user
	refused  []*user
	leaver   *user     // will sign out
	warm     time.Time // when the idlers' copies were made
	seen     *record

	stop context.CancelFunc
	work sync.WaitGroup
}

func (c *crowd) all() []*user {
	return append(append(append([]*user(nil), c.idle...), c.expire...), c.refused...)
}

// newCrowd signs everybody in, and has copies on both machines.
func newCrowd(t *testing.T, s *site) *crowd {
	t.Helper()
	c := &crowd{server: newAuthority(), seen: newRecord()}
	keys := newKeys(t)
	for range 2 {
		c.machines = append(c.machines, newCache(t, s.connect(t), &tokencache.Options{Keys: keys}))
	}
	c.cold = newCache(t, s.connect(t), &tokencache.Options{Keys: keys, L1MaxAge: time.Nanosecond})
	c.idle = c.signUp(t, "idle", idlers, time.Hour)
	c.expire = c.signUp(t, "expiring", expiring, 3*time.Second)
	c.refused = c.signUp(t, "refused", refusals, time.Hour)
	c.leaver = c.signUp(t, "leaver", 1, time.Hour)[0]
	c.warm = time.Now()
	for _, u := range c.all() {
		for _, m := range c.machines {
			if _, err := c.token(t.Context(), m, u, ""); err != nil {
				t.Fatal("before the failure:", err)
			}
		}
	}
	return c
}

func (c *crowd) signUp(t *testing.T, kind string, n int, lifetime time.Duration) []*user {
	t.Helper()
	users := make([]*user, n)
	for i := range users {
		users[i] = &user{account: fmt.Sprintf("%s%d", kind, i), lifetime: lifetime}
		if err := c.signIn(t.Context(), c.machines[0], users[i]); err != nil {
			t.Fatal("before the failure:", err)
		}
	}
	return users
}

func (c *crowd) signIn(ctx context.Context, m *tokencache.Cache, u *user) (err error) {
	u.ticket, err = m.SignIn(ctx, c.server.signIn(u.account, u.lifetime))
	return err
}

var errNotTheirs = errors.New("somebody else's token was served")

// token is a request of the user's, by way of a partition of its own.
func (c *crowd) token(
	ctx context.Context, m *tokencache.Cache, u *user, refused tokencache.Secret,
) (tokencache.Secret, error) {
	req := tokencache.Request{Scopes: []string{scope}, Refused: refused}
	tok, err := m.Partition(u.ticket.Key()).Token(ctx, req, c.server)
	switch {
	case err != nil:
		return "", err
	case !isOf(u.account, tok.AccessToken), tok.AccessToken == refused:
		return "", errNotTheirs
	}
	return tok.AccessToken, nil
}

// begin has everybody work until c.end.
func (c *crowd) begin(ctx context.Context) {
	ctx, c.stop = context.WithCancel(ctx)
	loop := func(kind kind, m *tokencache.Cache, u *user, pause time.Duration) {
		c.work.Go(func() {
			var last tokencache.Secret
			for ctx.Err() == nil {
				began := time.Now()
				refused := tokencache.Secret("")
				if kind == forced {
					refused = last
				}
				tok, err := c.token(ctx, m, u, refused)
				if ctx.Err() == nil {
					c.seen.add(kind, began, err)
				}
				if err == nil {
					last = tok
				}
				wait(ctx, pause)
			}
		})
	}
	for _, m := range c.machines {
		for _, u := range c.idle {
			loop(hit, m, u, 40*time.Millisecond)
		}
		for _, u := range c.expire {
			loop(refresh, m, u, 40*time.Millisecond)
		}
	}
	for i, u := range c.refused {
		loop(forced, c.machines[i%len(c.machines)], u, 100*time.Millisecond)
	}
	for _, u := range c.idle[:strangers] {
		loop(read, c.cold, u, 40*time.Millisecond)
	}
}

func (c *crowd) end() {
	c.stop()
	c.work.Wait()
}

// wait waits, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// newCache returns a cache that ends with the test, after which nothing waits to
// be stored any more.
func newCache(t *testing.T, p tokencache.Provider, o *tokencache.Options) *tokencache.Cache {
	t.Helper()
	namespace := tokencache.Namespace{Issuer: "https://login.example/tenant", ClientID: "client"}
	c, err := tokencache.New(p, namespace, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Error("Close:", err)
		}
	})
	return c
}

func newKeys(t *testing.T) *tokencache.Keys {
	t.Helper()
	ring, err := tokencache.NewKeyRing(randomKey())
	if err != nil {
		t.Fatal(err)
	}
	return &tokencache.Keys{Names: randomKey(), Seal: ring}
}

func randomKey() []byte {
	b := make([]byte, tokencache.KeySize)
	_, _ = rand.Read(b) // never fails
	return b
}
