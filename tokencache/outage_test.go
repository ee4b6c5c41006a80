package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestProviderDown(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t), hide: func(c *tokencache.Capabilities) { c.InProcess = false }}, newAuthority()
	options := &tokencache.Options{Keys: newKeys(t), ProviderTimeout: 50 * time.Millisecond}
	cache := newCache(t, provider, options)
	ticket := mustSignIn(t, cache, a, "read")
	for name, load := range map[string]loadFunc{"refused": refuseLoads, "hung": hangLoads} {
		provider.set(load, nil)
		mustToken(t, cache.Partition(ticket.Key()), a, "read") // L1 still serves
		_, err := cache.Partition(ticket.Key()).Token(t.Context(), tokencache.Request{Scopes: []string{"write"}}, a)
		if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("%s: got %v, want ErrUnavailable alone", name, err)
		}
		fresh := newCache(t, provider, options)
		wantError(t, fresh.Partition(ticket.Key()).Check(t.Context()), tokencache.ErrUnavailable)
	}
	a.wantRefreshes(t, 0) // the refresh token is not spent until the provider is back
	provider.set(nil, nil)
	mustToken(t, cache.Partition(ticket.Key()), a, "write")
}

func hangLoads(ctx context.Context, _ tokencache.Name) (tokencache.Record, error) {
	<-ctx.Done()
	return tokencache.Record{}, ctx.Err()
}

// A provider in this process is given time on a busy machine, but not forever: a
// call that hangs would block the partition for good.
func TestInProcessProviderHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		provider := &faulty{Provider: newProvider(t)}
		cache := newCache(t, provider, &tokencache.Options{ProviderTimeout: time.Millisecond})
		p := cache.Partition(tokencache.AccountKey(account))
		provider.set(hangLoads, nil)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wantError(t, p.Check(ctx), tokencache.ErrUnavailable)
		if took := time.Since(began); took != 20*time.Millisecond {
			t.Errorf("the call was ended after %v, want 20 times ProviderTimeout", took)
		}
		provider.set(nil, nil)
		wantError(t, p.Check(t.Context()), tokencache.ErrNoTokens)
	})
}

func TestCancelledIsNotUnavailable(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t), hide: func(c *tokencache.Capabilities) { c.InProcess = false }}, newAuthority()
	options := &tokencache.Options{Keys: newKeys(t)}
	ticket := mustSignIn(t, newCache(t, provider, options), a, "read")
	provider.set(hangLoads, nil)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := newCache(t, provider, options).Partition(ticket.Key()).Token(ctx, tokencache.Request{Scopes: []string{"read"}}, a)
	wantError(t, err, context.Canceled)
	if errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("a caller that left is reported as %v", err)
	}
}

// The backend applies the save and loses the reply.
func TestLostReply(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
	cache := newCache(t, provider, nil)
	lost := 0
	loseFirst := func() saveFunc {
		lose := loseReply(provider.Provider, errors.New("connection reset"))
		return func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
			err := lose(ctx, n, r, c)
			if err != nil && !errors.Is(err, tokencache.ErrConflict) {
				lost++
			}
			return err
		}
	}
	provider.set(nil, loseFirst())
	ticket := mustSignIn(t, cache, a, "read")
	p := cache.Partition(ticket.Key())
	provider.set(nil, loseFirst())
	mustExpire(t, p)
	provider.set(nil, loseFirst())
	mustToken(t, p, a, "read")
	provider.set(nil, nil)
	mustExpire(t, p)
	mustToken(t, p, a, "read")
	a.wantRefreshes(t, 2)
	if lost != 3 {
		t.Fatalf("%d replies were lost, want 3", lost)
	}
}

// Another writer comes between, and the load that would tell what it left fails
// once: the rotated refresh token is stored all the same.
func TestConflictThenAFailedLoad(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
	cache, other := newCache(t, provider, nil), newCache(t, provider.Provider, nil)
	ticket := mustSignIn(t, cache, a, "read")
	var once sync.Once
	provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		once.Do(func() {
			mustExpire(t, other.Partition(ticket.Key()))
			provider.set(refuseFirstLoad(provider.Provider), nil)
		})
		return provider.Provider.Save(ctx, n, r, c)
	})
	mustToken(t, cache.Partition(ticket.Key()), a, "write")
	mustToken(t, other.Partition(ticket.Key()), a, "read")
	a.wantRefreshes(t, 2)
}

// The server refuses a refresh token that another machine has spent, and the
// store cannot tell: that is an outage, and signs nobody out.
func TestInvalidGrantDuringAnOutage(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t), hide: noLeases}, newAuthority()
	one, two := newCache(t, provider, nil), newCache(t, provider.Provider, nil)
	ticket := mustSignIn(t, one, a, "read")
	mustExpire(t, one.Partition(ticket.Key()))
	overtaken := serverFunc(func(ctx context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
		mustToken(t, two.Partition(ticket.Key()), a.lenient(), "other")
		provider.set(refuseLoads, nil)
		return a.lenient()(ctx, rt, req)
	})
	_, err := one.Partition(ticket.Key()).Token(t.Context(), request("read"), overtaken)
	if errors.Is(err, tokencache.ErrNoTokens) || !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable alone", err)
	}
	provider.set(nil, nil)
	mustToken(t, one.Partition(ticket.Key()), a.lenient(), "read") // it was not remembered as refused
}

// A key service that does not answer once must not cost the tokens that the
// server has just issued.
func TestSealingIsTriedAgain(t *testing.T) {
	t.Parallel()
	a, keys := newAuthority(), newKeys(t)
	aead := &blinkingAEAD{AEAD: keys.Seal}
	keys.Seal = aead
	cache := newCache(t, newProvider(t), &tokencache.Options{Keys: keys})
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	aead.down.Store(true)
	mustToken(t, p, a, "write")
	if aead.down.Load() {
		t.Fatal("nothing was sealed")
	}
	mustToken(t, p, a, "list")
	a.wantRefreshes(t, 2)
}

// blinkingAEAD does not answer the next Encrypt while down is set.
type blinkingAEAD struct {
	tokencache.AEAD
	down atomic.Bool
}

func (b *blinkingAEAD) Encrypt(plain, ad []byte) ([]byte, error) {
	if b.down.CompareAndSwap(true, false) {
		return nil, fmt.Errorf("key service: %w", tokencache.ErrUnavailable)
	}
	return b.AEAD.Encrypt(plain, ad)
}

// The moment the backend goes down is when L1 is needed: a watcher that gives up
// leaves it alone.
func TestWatcherThatReturnsLeavesCopies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
		w := &mortalWatcher{Watcher: provider.Provider.Capabilities().Watcher, die: make(chan struct{})}
		provider.hide = func(c *tokencache.Capabilities) { c.Watcher = w }
		cache := newCache(t, provider, nil)
		ticket := mustSignIn(t, cache, a, "read")
		provider.set(refuseLoads, refuseSaves)
		close(w.die)
		for range 5 { // it is asked again each second
			synctest.Wait()
			mustToken(t, cache.Partition(ticket.Key()), a, "read")
			time.Sleep(time.Second)
		}
		if n := w.calls.Load(); n < 3 {
			t.Errorf("the watcher was asked %d times", n)
		}
	})
}

// mortalWatcher returns as soon as die is closed.
type mortalWatcher struct {
	tokencache.Watcher
	die   chan struct{}
	calls atomic.Int64
}

func (w *mortalWatcher) Watch(ctx context.Context, notify func(tokencache.Change)) error {
	w.calls.Add(1)
	select {
	case <-w.die:
		return errRefused
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-w.die:
			cancel()
		case <-ctx.Done():
		}
	}()
	return w.Watcher.Watch(ctx, notify)
}

// A change that cannot be stored in its time is an outage. Nobody's context has
// ended, and none may be blamed.
func TestSavesEndAsUnavailable(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		load loadFunc
		save saveFunc
		do   func(context.Context, *tokencache.Cache, *authority) error
	}{
		"sign in": {nil, refuseSaves, func(ctx context.Context, c *tokencache.Cache, a *authority) error {
			_, err := c.SignIn(ctx, a.signIn("read"))
			return err
		}},
		"sign in, load": {refuseLoads, nil, func(ctx context.Context, c *tokencache.Cache, a *authority) error {
			_, err := c.SignIn(ctx, a.signIn("read"))
			return err
		}},
		"expire": {nil, refuseSaves, func(ctx context.Context, c *tokencache.Cache, _ *authority) error {
			return c.Partition(tokencache.AccountKey(account)).Expire(ctx)
		}},
		"sign out": {nil, refuseSaves, func(ctx context.Context, c *tokencache.Cache, _ *authority) error {
			return c.Partition(tokencache.AccountKey(account)).SignOut(ctx, nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
				cache := newCache(t, provider, nil)
				mustSignIn(t, cache, a, "read")
				provider.set(tt.load, tt.save)
				wantError(t, tt.do(t.Context(), cache, a), tokencache.ErrUnavailable)
			})
		})
	}
}
