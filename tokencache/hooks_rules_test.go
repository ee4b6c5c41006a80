package tokencache_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Beside a provider, an error from BeforeAccess stops every operation before it
// has asked the provider or the server.
func TestHooksStopEveryOperation(t *testing.T) {
	t.Parallel()
	r, a := &recorder{fail: map[string]error{}}, newAuthority()
	provider := &faulty{Provider: newProvider(t)}
	cache := newCache(t, provider, r.options())
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	ops := hookOps(p, a)
	ops["sign in"] = func(ctx context.Context) error { _, err := cache.SignIn(ctx, a.signIn("read")); return err }
	calls := provider.loads.Load() + provider.saves.Load()
	for _, veto := range []error{errDisk, tokencache.ErrNoTokens, tokencache.ErrRemoved, tokencache.ErrConflict} {
		r.fail["before"] = veto
		for name, op := range ops {
			r.lines, r.seen = nil, nil
			err := op(t.Context())
			if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNoTokens) || errors.Is(err, tokencache.ErrConflict) {
				t.Errorf("%s: got %v, want ErrUnavailable alone", name, err)
			}
			end := "after error"
			if name == "sign in" {
				end = "after server error"
			}
			if last := r.seen[len(r.seen)-1]; !errors.Is(last.Err, tokencache.ErrUnavailable) || last.Tokens != nil {
				t.Errorf("%s: AfterAccess was told of %v", name, last.Err)
			}
			r.want(t, name, "before", end)
		}
	}
	if got := provider.loads.Load() + provider.saves.Load(); got != calls || a.refreshes.Load()+a.revokes.Load() != 0 {
		t.Error("the provider or the server was asked")
	}
	r.fail["before"] = nil
	mustToken(t, p, nil, "read")
}

// A veto in the refresh's own access keeps the refresh token.
func TestHooksStopARefresh(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	var veto atomic.Bool
	var lookedUp atomic.Int64
	cache := newCache(t, newProvider(t), &tokencache.Options{BeforeAccess: func(context.Context, *tokencache.Access) error {
		if veto.Load() && lookedUp.Add(1) == 2 {
			return errDisk
		}
		return nil
	}})
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	veto.Store(true)
	_, err := p.Token(t.Context(), request("write"), a)
	wantError(t, err, tokencache.ErrUnavailable)
	a.wantRefreshes(t, 0)
	mustToken(t, p, a, "write")
	a.wantRefreshes(t, 1)
}

func TestHooksVetoEveryWrite(t *testing.T) {
	t.Parallel()
	r, a := &recorder{fail: map[string]error{}}, newAuthority()
	provider := &faulty{Provider: newProvider(t)}
	cache := newCache(t, provider, r.options())
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	saves := provider.saves.Load()
	r.fail["write"] = errDisk
	for _, step := range []struct {
		name   string
		op     func() error
		passes bool
		want   []string
	}{
		{"expire", func() error { return p.Expire(t.Context()) }, false, []string{"before", "write changed tokens", "after error"}},
		{"sign out", func() error { return p.SignOut(t.Context(), a) }, false, []string{"before", "write changed", "after tokens error"}},
		{"everywhere", func() error { return p.SignOutEverywhere(t.Context(), a) }, false, []string{"before", "write changed", "after tokens error"}},
		{
			"sign in", func() error { _, err := cache.SignIn(t.Context(), a.signIn("read")); return err }, false,
			[]string{"before", "write changed tokens", "after server error"},
		},
		{
			"refresh", func() error { _, err := p.Token(t.Context(), request("write"), a); return err }, true,
			[]string{"before", "after tokens", "before", "write changed tokens", "after tokens server error"},
		},
		{"check", func() error { return p.Check(t.Context()) }, true, []string{"before", "after tokens l1"}},
	} {
		r.lines, r.seen = nil, nil
		switch err := step.op(); {
		case step.passes && err != nil:
			t.Errorf("%s: %v", step.name, err)
		case !step.passes:
			wantError(t, err, errDisk)
		}
		if last := r.seen[len(r.seen)-1]; !last.SuggestedExpiry.IsZero() || (last.Tokens != nil) != last.HasTokens {
			t.Errorf("%s: AfterAccess was shown what was not stored", step.name)
		}
		r.want(t, step.name, step.want...)
	}
	if provider.saves.Load() != saves || a.revokes.Load() != 0 {
		t.Error("something was saved or revoked")
	}
}

// Who invalidates copies of his own must hear of what was stored, also if the
// access failed afterwards.
func TestHooksOfAChangeBeforeAnError(t *testing.T) {
	t.Parallel()
	r, a := &recorder{}, newAuthority()
	provider := &faulty{Provider: newProvider(t)}
	cache := newCache(t, provider, r.options())
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	a.answer = func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
		g.Scopes = []string{"less"}
		return g, nil
	}
	r.lines = nil
	_, err := p.Token(t.Context(), request("write"), a)
	var interaction *tokencache.InteractionRequiredError
	if !errors.As(err, &interaction) {
		t.Errorf("got %v, want that the user must act", err)
	}
	r.want(t, "granted less", "before", "after tokens", "before", "write changed tokens", "after changed tokens error")

	a.answer = func(_ context.Context, g tokencache.Grant) (tokencache.Grant, error) {
		return tokencache.Grant{RefreshToken: g.RefreshToken}, &tokencache.ServerError{Err: errRefused}
	}
	if _, err = p.Token(t.Context(), request("other"), a); err == nil {
		t.Error("no error")
	}
	r.want(t, "a bad answer", "before", "after tokens", "before", "write changed tokens", "after changed tokens error")
	a.answer = nil

	mustToken(t, cache.Partition(tokencache.AssertionKey(mustVerify(t, account, "incoming"))), a, "read")
	own := r.seen[0].SuggestedKey
	r.lines, r.seen = nil, nil
	memory := provider.Provider
	removed := 0
	provider.set(nil, func(ctx context.Context, n tokencache.Name, rec tokencache.Record, c tokencache.Condition) error {
		if removed++; removed > 1 {
			return errRefused // the assertion's stays
		}
		return memory.Save(ctx, n, rec, c)
	})
	wantError(t, p.SignOutEverywhere(t.Context(), a), tokencache.ErrUnavailable)
	for _, s := range r.seen {
		if after := s.Duration > 0; after && (s.HasStateChanged != (s.SuggestedKey == own) || s.HasTokens && s.HasStateChanged) {
			t.Errorf("changed is %t, and tokens %t, for the own partition: %t", s.HasStateChanged, s.HasTokens, s.SuggestedKey == own)
		}
	}
}

// Whatever panics, AfterAccess runs, and hears of no change that was not made.
func TestHooksAfterAPanic(t *testing.T) {
	t.Parallel()
	r, a := &recorder{}, newAuthority()
	options := r.options()
	var armed atomic.Bool
	write := options.BeforeWrite
	options.BeforeWrite = func(ctx context.Context, access *tokencache.Access) error {
		_ = write(ctx, access)
		if armed.CompareAndSwap(true, false) {
			panic("in a hook")
		}
		return nil
	}
	cache := newCache(t, newProvider(t), options)
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	for name, op := range map[string]func(){
		"expire":   func() { _ = p.Expire(t.Context()) },
		"sign out": func() { _ = p.SignOut(t.Context(), a) },
		"sign in":  func() { _, _ = cache.SignIn(t.Context(), a.signIn("read")) },
	} {
		armed.Store(true)
		r.lines = nil
		if !panics(op) {
			t.Errorf("%s: the panic did not reach the caller", name)
		}
		if last := r.lines[len(r.lines)-1]; len(r.lines) != 3 || slices.Contains([]string{"after changed", "after changed tokens"}, last) {
			t.Errorf("%s: the hooks were told %q", name, r.lines)
		}
	}
	mustToken(t, p, nil, "read")
	r.lines = nil
	a.before = func(context.Context) error { panic("in a hook") }
	if !panics(func() { _, _ = p.Token(t.Context(), request("write"), a) }) {
		t.Error("the panic did not reach the caller")
	}
	r.want(t, "refresh", "before", "after tokens", "before", "after tokens")
}

// What is stored later is an access of its own.
func TestHooksOfAKeptSave(t *testing.T) {
	t.Parallel()
	r, a := &recorder{}, newAuthority()
	provider := &faulty{Provider: newProvider(t)}
	cache := newCache(t, provider, r.options())
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	r.lines, r.seen = nil, nil
	provider.set(nil, refuseSaves)
	mustToken(t, p, a, "write")
	r.mu.Lock()
	if want := []string{"before", "after tokens", "before", "write changed tokens", "after tokens server error"}; len(r.lines) < 5 || !slices.Equal(r.lines[:5], want) {
		t.Errorf("the hooks were told %q", r.lines)
	}
	r.mu.Unlock()
	provider.set(nil, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := cache.Close(ctx); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.lines); !slices.Equal(r.lines[n-3:], []string{"before", "write changed tokens", "after changed tokens"}) {
		t.Errorf("the hooks were told %q in the end", r.lines[n-3:])
	}
}
