package tokencache_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var namespace = tokencache.Namespace{Issuer: "https://login.example/tenant", ClientID: "client"}

const account = "uid.utid"

// request asks for scopes.
func request(scopes ...string) tokencache.Request { return tokencache.Request{Scopes: scopes} }

func newProvider(t testing.TB) *memory.Provider {
	t.Helper()
	p, err := memory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

func newCache(t testing.TB, p tokencache.Provider, o *tokencache.Options) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.New(p, namespace, o)
	if err != nil {
		t.Fatal(err)
	}
	tokencache.AwaitWatch(c)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func newKeys(t testing.TB) *tokencache.Keys {
	t.Helper()
	ring, err := tokencache.NewKeyRing(random32())
	if err != nil {
		t.Fatal(err)
	}
	return &tokencache.Keys{Names: random32(), Seal: ring}
}

func random32() []byte {
	b := make([]byte, tokencache.KeySize)
	_, _ = rand.Read(b)
	return b
}

// authority is an authorization server that rotates refresh tokens and allows
// no grace: a refresh token that is used twice revokes its family.
type authority struct {
	lifetime time.Duration
	// answer, unless nil, may change or replace what Refresh returns, after the
	// refresh token has been rotated.
	answer func(context.Context, tokencache.Grant) (tokencache.Grant, error)
	// before, unless nil, runs before the refresh token is looked at.
	before func(context.Context) error

	mu        sync.Mutex
	live      map[tokencache.Secret]string // refresh token → family
	spent     map[tokencache.Secret]string
	revoked   map[string]bool
	serial    int
	refreshes atomic.Int64
	reused    atomic.Int64
	revokes   atomic.Int64
}

func newAuthority() *authority {
	return &authority{
		lifetime: time.Hour,
		live:     map[tokencache.Secret]string{},
		spent:    map[tokencache.Secret]string{},
		revoked:  map[string]bool{},
	}
}

// hold makes the next refresh wait at the server: it has come when entered is
// closed, and goes on when proceed is.
func (a *authority) hold() (entered <-chan struct{}, proceed chan<- struct{}) {
	in, out := make(chan struct{}), make(chan struct{})
	a.before = func(context.Context) error { close(in); <-out; return nil }
	return in, out
}

// signIn issues the first tokens of a family.
func (a *authority) signIn(scopes ...string) func(context.Context) (tokencache.Grant, error) {
	return a.signInAs(account, scopes...)
}

func (a *authority) signInAs(who string, scopes ...string) func(context.Context) (tokencache.Grant, error) {
	return func(context.Context) (tokencache.Grant, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.serial++
		g := a.issue(fmt.Sprintf("%s-%d", who, a.serial), scopes)
		g.IDToken = "marker-id-token"
		g.Account = tokencache.Account{ID: who, LocalID: "local", Tenant: "utid", Username: "user@example.test", Name: "User"}
		return g, nil
	}
}

// issue is called with the lock held.
func (a *authority) issue(family string, scopes []string) tokencache.Grant {
	a.serial++
	rt := tokencache.Secret(fmt.Sprintf("marker-refresh-%d", a.serial))
	a.live[rt] = family
	return tokencache.Grant{
		AccessToken:  tokencache.Secret(fmt.Sprintf("marker-access-%d-%s-%s", a.serial, family, strings.Join(scopes, "+"))),
		Scopes:       slices.Clone(scopes),
		Expires:      time.Now().Add(a.lifetime),
		RefreshToken: rt,
	}
}

func (a *authority) Refresh(ctx context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	a.refreshes.Add(1)
	if a.before != nil {
		if err := a.before(ctx); err != nil {
			return tokencache.Grant{}, err
		}
	}
	g, err := a.rotate(rt, req.Scopes)
	if err == nil && a.answer != nil {
		return a.answer(ctx, g)
	}
	return g, err
}

func (a *authority) rotate(rt tokencache.Secret, scopes []string) (tokencache.Grant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if rt == "" { // client credentials, on-behalf-of
		g := a.issue("none", scopes)
		g.RefreshToken = ""
		return g, nil
	}
	if family, ok := a.spent[rt]; ok {
		a.reused.Add(1)
		a.revoked[family] = true
		return tokencache.Grant{}, fmt.Errorf("reuse: %w", tokencache.ErrInvalidGrant)
	}
	family, ok := a.live[rt]
	if !ok || a.revoked[family] {
		return tokencache.Grant{}, tokencache.ErrInvalidGrant
	}
	delete(a.live, rt)
	a.spent[rt] = family
	return a.issue(family, scopes), nil
}

// lenient is the authority without reuse detection: a refresh token that is used
// twice is refused, and its family lives on.
func (a *authority) lenient() serverFunc {
	return func(_ context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
		a.mu.Lock()
		_, spent := a.spent[rt]
		a.mu.Unlock()
		if spent {
			return tokencache.Grant{}, tokencache.ErrInvalidGrant
		}
		return a.rotate(rt, req.Scopes)
	}
}

type serverFunc func(context.Context, tokencache.Secret, tokencache.Request) (tokencache.Grant, error)

func (f serverFunc) Refresh(ctx context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	return f(ctx, rt, req)
}
func (serverFunc) Revoke(context.Context, tokencache.Secret) error { return nil }

func (a *authority) Revoke(_ context.Context, rt tokencache.Secret) error {
	a.revokes.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range []map[tokencache.Secret]string{a.live, a.spent} {
		if family, ok := m[rt]; ok {
			a.revoked[family] = true
		}
	}
	return nil
}

func (a *authority) revokeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, family := range a.live {
		a.revoked[family] = true
	}
}

func (a *authority) wantRefreshes(t testing.TB, want int64) {
	t.Helper()
	if got := a.refreshes.Load(); got != want {
		t.Errorf("the server was asked for %d refreshes, want %d", got, want)
	}
	if got := a.reused.Load(); got != 0 {
		t.Errorf("a refresh token was used twice, %d times", got)
	}
}

func mustSignIn(t testing.TB, c *tokencache.Cache, a *authority, scopes ...string) tokencache.Ticket {
	t.Helper()
	ticket, err := c.SignIn(t.Context(), a.signIn(scopes...))
	if err != nil {
		t.Fatalf("SignIn: %v", err)
	}
	return ticket
}

func mustExpire(t testing.TB, p *tokencache.Partition) {
	t.Helper()
	if err := p.Expire(t.Context()); err != nil {
		t.Fatalf("Expire: %v", err)
	}
}

func mustToken(t testing.TB, p *tokencache.Partition, s tokencache.Server, scopes ...string) tokencache.Token {
	t.Helper()
	tok, err := p.Token(t.Context(), tokencache.Request{Scopes: scopes}, s)
	if err != nil {
		t.Fatalf("Token: %v", err)
	}
	return tok
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got the error %v, want %v", err, want)
	}
}

type (
	loadFunc = func(context.Context, tokencache.Name) (tokencache.Record, error)
	saveFunc = func(context.Context, tokencache.Name, tokencache.Record, tokencache.Condition) error
)

var errRefused = errors.New("connection refused")

func refuseLoads(context.Context, tokencache.Name) (tokencache.Record, error) {
	return tokencache.Record{}, errRefused
}

func refuseSaves(context.Context, tokencache.Name, tokencache.Record, tokencache.Condition) error {
	return errRefused
}

func tooLarge(context.Context, tokencache.Name, tokencache.Record, tokencache.Condition) error {
	return tokencache.ErrTooLarge
}

// refuseFirstLoad refuses one load, and leaves the others to the provider.
func refuseFirstLoad(p tokencache.Provider) loadFunc {
	var refused atomic.Bool
	return func(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
		if refused.CompareAndSwap(false, true) {
			return tokencache.Record{}, errRefused
		}
		return p.Load(ctx, n)
	}
}

// loseReply has the provider apply each save, and answers the first with err.
func loseReply(p tokencache.Provider, err error) saveFunc {
	var lost atomic.Bool
	return func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		applied := p.Save(ctx, n, r, c)
		if lost.CompareAndSwap(false, true) {
			return err
		}
		return applied
	}
}

// faulty wraps a provider; each function, unless nil, runs in place of the
// provider's and may call it.
type faulty struct {
	tokencache.Provider
	mu   sync.Mutex
	load loadFunc
	save saveFunc
	// hide drops capabilities.
	hide  func(*tokencache.Capabilities)
	loads atomic.Int64
	saves atomic.Int64
}

func (f *faulty) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	f.loads.Add(1)
	f.mu.Lock()
	load := f.load
	f.mu.Unlock()
	if load != nil {
		return load(ctx, n)
	}
	return f.Provider.Load(ctx, n)
}

func (f *faulty) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	f.saves.Add(1)
	f.mu.Lock()
	save := f.save
	f.mu.Unlock()
	if save != nil {
		return save(ctx, n, r, c)
	}
	return f.Provider.Save(ctx, n, r, c)
}

func (f *faulty) Capabilities() tokencache.Capabilities {
	caps := f.Provider.Capabilities()
	if f.hide != nil {
		f.hide(&caps)
	}
	return caps
}

func (f *faulty) set(load loadFunc, save saveFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.load, f.save = load, save
}

func noLeases(c *tokencache.Capabilities) { c.Leaser = nil }

// noCopies makes every lookup reach the provider.
func noCopies(o tokencache.Options) *tokencache.Options {
	o.L1MaxAge = time.Nanosecond
	return &o
}
