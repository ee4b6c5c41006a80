package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// failOnce fails one write, before or after it is done.
func failOnce(err error, done bool) func(context.Context, *tokencache.Access, tokencache.Hook) error {
	var failed atomic.Bool
	return func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
		if !access.HasStateChanged || !failed.CompareAndSwap(false, true) {
			return hook(ctx, access)
		}
		if done {
			_ = hook(ctx, access)
		}
		return err
	}
}

// Every change is made, once, whether it was the write that failed or the reply
// that was lost.
func TestHooksPersistTryAgain(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{false, true} {
		for _, cause := range []error{errDisk, fmt.Errorf("%w: mine", tokencache.ErrNotFound), tokencache.ErrBusy, tokencache.ErrRemoved, tokencache.ErrConflict} {
			t.Run(fmt.Sprintf("%v, done: %t", cause, done), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s, a := newShelf(), newAuthority()
					cache := newHookCache(t, s)
					s.set(nil, failOnce(cause, done))
					p := cache.Partition(mustSignIn(t, cache, a, "other").Key())
					s.set(nil, failOnce(cause, done))
					tok := mustToken(t, p, a, "read")
					if got := mustToken(t, newHookCache(t, s).Partition(p.Key()), nil, "read"); got.AccessToken != tok.AccessToken {
						t.Error("what is stored is not what was handed out")
					}
					s.set(nil, failOnce(cause, done))
					mustExpire(t, p)
					mustToken(t, p, a, "read")
					a.wantRefreshes(t, 2)
					s.set(nil, failOnce(cause, done))
					if err := p.SignOut(t.Context(), a); err != nil {
						t.Errorf("SignOut: %v", err)
					}
					if s.only(t) != "" {
						t.Error("signed out, and tokens are stored")
					}
					wantError(t, p.Check(t.Context()), tokencache.ErrRemoved)
				})
			})
		}
	}
}

// A hook that looks at its context holds nobody for longer than ProviderTimeout,
// and a caller who leaves not at all.
func TestHooksPersistBlocked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, a := newShelf(), newAuthority()
		cache := newHookCache(t, s)
		p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
		block := func(ctx context.Context, _ *tokencache.Access, _ tokencache.Hook) error {
			<-ctx.Done()
			return ctx.Err()
		}
		s.set(block, nil)
		began := time.Now()
		wantError(t, p.Check(t.Context()), tokencache.ErrUnavailable)
		if took := time.Since(began); took != 250*time.Millisecond {
			t.Errorf("the read was ended after %v, want ProviderTimeout", took)
		}
		s.set(nil, block)
		began = time.Now()
		mustToken(t, p, nil, "read")
		if took := time.Since(began); took != 250*time.Millisecond {
			t.Errorf("AfterAccess was ended after %v, want ProviderTimeout", took)
		}
		s.set(block, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := p.Check(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("got %v, want the caller's own end", err)
		}
		s.set(nil, func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
			if access.HasStateChanged {
				return block(ctx, access, hook)
			}
			return hook(ctx, access)
		})
		began = time.Now()
		tok := mustToken(t, p, a, "write")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the token came after %v", took)
		}
		s.set(nil, nil)
		if err := cache.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := mustToken(t, newHookCache(t, s).Partition(p.Key()), nil, "write"); got.AccessToken != tok.AccessToken {
			t.Error("the token was not written")
		}
	})
}

// What cannot be read is one user's, and no reason to refuse others.
func TestHooksPersistFailForOne(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	s.set(func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
		if access.Account == "broken" {
			return errDisk
		}
		return hook(ctx, access)
	}, nil)
	for range 20 {
		wantError(t, cache.Partition(tokencache.AccountKey("broken")).Check(t.Context()), tokencache.ErrUnavailable)
	}
	mustToken(t, p, nil, "read")
}

// Reads do not wait for each other; a write has its partition to itself.
func TestHooksPersistOverlap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, a := newShelf(), newAuthority()
		cache := newHookCache(t, s)
		ticket := mustSignIn(t, cache, a, "read")
		slow := func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
			time.Sleep(20 * time.Millisecond)
			return hook(ctx, access)
		}
		s.set(slow, slow)
		together(100, func(i int) {
			p := cache.Partition(ticket.Key())
			if i%10 == 0 {
				mustToken(t, p, a, "write", fmt.Sprint(i%20))
			}
			mustToken(t, p, nil, "read")
		})
		if s.overlaps != 0 || s.readers < 10 {
			t.Errorf("%d writes overlapped with others, and at most %d reads ran at once", s.overlaps, s.readers)
		}
		a.wantRefreshes(t, 2)
	})
}

func TestHooksPersistOneRefresh(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	ticket := mustSignIn(t, cache, a, "read")
	mustExpire(t, cache.Partition(ticket.Key()))
	together(100, func(int) { mustToken(t, cache.Partition(ticket.Key()), a, "read") })
	a.wantRefreshes(t, 1)
	together(100, func(i int) { mustToken(t, cache.Partition(ticket.Key()), a, fmt.Sprint("scope-", i%10)) })
	a.wantRefreshes(t, 11)
	if got := strings.Count(s.only(t), `"cached_at"`); got != 11 {
		t.Errorf("%d access tokens are stored, want 11", got)
	}
}

// Among processes the last writer wins: nothing is mixed up, and everyone who
// signs in again has tokens.
func TestHooksPersistInTwoProcesses(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	caches := []*tokencache.Cache{newHookCache(t, s), newHookCache(t, s)}
	users := []string{"u0", "u1", "u2"}
	for _, user := range users {
		if _, err := caches[0].SignIn(t.Context(), a.signInAs(user, "read")); err != nil {
			t.Fatal(err)
		}
	}
	together(60, func(i int) {
		user := users[i%3]
		p := caches[i%2].Partition(tokencache.AccountKey(user))
		tok, err := p.Token(t.Context(), request(fmt.Sprint("scope-", i%7)), a.lenient())
		if err == nil && !strings.Contains(string(tok.AccessToken), "-"+user+"-") {
			t.Errorf("%s got the token of another", user)
		}
		if err != nil && !errors.Is(err, tokencache.ErrInvalidGrant) { // the other process has spent it
			t.Errorf("%s: %v", user, err)
		}
		if i%10 == 0 {
			mustExpire(t, p)
		}
	})
	for _, doc := range s.all() {
		var tokens tokencache.Tokens
		if err := tokens.Deserialize(strings.NewReader(doc)); err != nil {
			t.Error(err)
		}
		owners := 0
		for _, user := range users {
			if strings.Contains(doc, user) {
				owners++
			}
		}
		if owners != 1 {
			t.Errorf("one document is about %d users", owners)
		}
	}
	for i, user := range users {
		if _, err := caches[i%2].SignIn(t.Context(), a.signInAs(user, "read")); err != nil {
			t.Error(err)
		}
		mustToken(t, caches[1].Partition(tokencache.AccountKey(user)), a, "anything")
	}
}

// An application whose store has versions of its own returns ErrConflict, and
// loses no update of another process.
func TestHooksPersistWithVersions(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	var mu sync.Mutex
	read := map[*tokencache.Access]string{} // what each access has read
	s.set(func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
		err := hook(ctx, access)
		s.mu.Lock()
		doc := s.docs[access.SuggestedKey]
		s.mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		read[access] = doc
		return err
	}, func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
		mu.Lock()
		defer mu.Unlock()
		s.mu.Lock()
		doc := s.docs[access.SuggestedKey]
		s.mu.Unlock()
		if access.HasStateChanged && doc != read[access] {
			return fmt.Errorf("%w: somebody has written", tokencache.ErrConflict)
		}
		return hook(ctx, access)
	})
	one, two := newHookCache(t, s), newHookCache(t, s)
	application := tokencache.ApplicationKey("", "api")
	a.before = func(context.Context) error { // while one asks the server, two has its answer and writes
		a.before = nil
		mustToken(t, two.Partition(application), a, "scope-2")
		return nil
	}
	mustToken(t, one.Partition(application), a, "scope-1")
	if got := strings.Count(s.only(t), `"cached_at"`); got != 2 {
		t.Errorf("%d access tokens are stored, want both", got)
	}
	for _, scope := range []string{"scope-1", "scope-2"} {
		mustToken(t, one.Partition(application), nil, scope)
	}
}

// A refresh that was under way does not bring back what was signed out of,
// whoever has looked at the partition since.
func TestHooksPersistDoNotResurrect(t *testing.T) {
	t.Parallel()
	for _, look := range []bool{false, true} {
		s, a := newShelf(), newAuthority()
		cache := newHookCache(t, s)
		ticket := mustSignIn(t, cache, a, "other")
		a.before = func(ctx context.Context) error {
			a.before = nil
			if err := cache.Partition(ticket.Key()).SignOut(ctx, nil); err != nil {
				t.Error(err)
			}
			if look {
				wantError(t, cache.Partition(ticket.Key()).Check(ctx), tokencache.ErrRemoved)
			}
			return nil
		}
		_, err := cache.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
		wantError(t, err, tokencache.ErrRemoved)
		if s.only(t) != "" {
			t.Errorf("looked at meanwhile: %t: tokens are stored", look)
		}
		mustSignIn(t, cache, a, "read")
	}
}

// Nor does it when a sign-in meanwhile has failed to write.
func TestHooksPersistRememberARemoval(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	ticket := mustSignIn(t, cache, a, "other")
	a.before = func(ctx context.Context) error {
		if err := cache.Partition(ticket.Key()).SignOut(ctx, nil); err != nil {
			t.Error(err)
		}
		s.set(nil, failOnce(tokencache.ErrTooLarge, false))
		_, err := cache.SignIn(ctx, a.signIn("read"))
		wantError(t, err, tokencache.ErrTooLarge)
		return nil
	}
	_, err := cache.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
	wantError(t, err, tokencache.ErrRemoved)
	if s.only(t) != "" {
		t.Error("tokens are stored")
	}
}

// panicOnce panics in one call of the phase.
func panicOnce(armed *atomic.Bool) func(context.Context, *tokencache.Access, tokencache.Hook) error {
	return func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
		if armed.CompareAndSwap(true, false) {
			panic("in a hook")
		}
		return hook(ctx, access)
	}
}

func panics(f func()) (panicked bool) {
	defer func() { panicked = recover() == "in a hook" }()
	f()
	return false
}

func TestHooksPersistPanic(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	options := s.options()
	var armed atomic.Bool
	trap := panicOnce(&armed)
	write := options.BeforeWrite
	options.BeforeWrite = func(ctx context.Context, access *tokencache.Access) error { return trap(ctx, access, write) }
	cache := newCache(t, nil, options)
	ticket := mustSignIn(t, cache, a, "read")
	p := cache.Partition(ticket.Key())
	before := s.only(t)
	for name, op := range hookOps(p, a) {
		s.set(trap, nil)
		armed.Store(true)
		if !panics(func() { _ = op(t.Context()) }) || armed.Load() {
			t.Errorf("%s: the panic of BeforeAccess did not reach the caller", name)
		}
		s.set(nil, nil)
		if name == "sign out" || name == "everywhere" || name == "expire" {
			armed.Store(true)
			s.forget()
			if !panics(func() { _ = op(t.Context()) }) {
				t.Errorf("%s: the panic of BeforeWrite did not reach the caller", name)
			}
			if last := s.told("after"); len(last) > 1 || len(last) == 1 && last[0].HasStateChanged {
				t.Errorf("%s: AfterAccess was told of a change that was not made", name)
			}
		}
	}
	armed.Store(true)
	if !panics(func() { _, _ = cache.SignIn(t.Context(), a.signIn("read")) }) {
		t.Error("the panic of BeforeWrite did not reach who signs in")
	}
	if s.only(t) != before {
		t.Error("what is stored has changed")
	}
	mustToken(t, p, nil, "read") // no lock is left behind
}

// Tokens are not lost in the panic of the hook that was to store them, nor does
// its panic in the background, where nobody can recover it, end the program.
func TestHooksPersistPanicInTheWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, a := newShelf(), newAuthority()
		cache := newHookCache(t, s)
		ticket := mustSignIn(t, cache, a, "other")
		var left atomic.Int64
		left.Store(5)
		s.set(nil, func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
			if access.HasStateChanged && left.Add(-1) >= 0 {
				panic("in a hook")
			}
			return hook(ctx, access)
		})
		if !panics(func() { _, _ = cache.Partition(ticket.Key()).Token(t.Context(), request("read"), a) }) {
			t.Error("the panic did not reach the caller")
		}
		if err := cache.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left.Load() >= 0 {
			t.Error("the write was not tried again")
		}
		mustToken(t, newHookCache(t, s).Partition(ticket.Key()), nil, "read")
		a.wantRefreshes(t, 1)
	})
}

// Every access ends with an AfterAccess, in a flight too.
func TestHooksPersistPanicIsAnAccess(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	s.forget()
	a.before = func(context.Context) error { panic("in a hook") }
	if !panics(func() { _, _ = p.Token(t.Context(), request("write"), a) }) {
		t.Error("the panic did not reach the caller")
	}
	s.want(t, "a panic in a flight", "before", "after tokens", "before", "after tokens")
}

// A sign-in that could not read at first does not overwrite what was there.
func TestHooksPersistSignInAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, a := newShelf(), newAuthority()
		ticket := mustSignIn(t, newHookCache(t, s), a, "read")
		cache := newHookCache(t, s)
		ends := time.Now().Add(2500 * time.Millisecond) // the sign-in has given up reading, and begun to write
		s.set(func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
			if time.Now().Before(ends) {
				return errDisk
			}
			return hook(ctx, access)
		}, nil)
		again := mustSignIn(t, cache, a, "write")
		if again != ticket {
			t.Error("the other sessions of the user were ended")
		}
		mustToken(t, cache.Partition(ticket.Key()), nil, "read")
		mustToken(t, cache.Partition(ticket.Key()), nil, "write")
	})
}
