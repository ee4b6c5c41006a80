package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// recorder writes down what the hooks are told.
type recorder struct {
	mu    sync.Mutex
	lines []string
	seen  []tokencache.Access
	fail  map[string]error
}

func (r *recorder) hook(phase string) tokencache.Hook {
	return func(_ context.Context, a *tokencache.Access) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		line := phase
		if a.HasStateChanged {
			line += " changed"
		}
		if a.HasTokens {
			line += " tokens"
		}
		if a.Source != tokencache.SourceNone {
			line += " " + a.Source.String()
		}
		if a.Err != nil {
			line += " error"
		}
		r.lines = append(r.lines, line)
		r.seen = append(r.seen, *a)
		return r.fail[phase]
	}
}

func (r *recorder) options() *tokencache.Options {
	return &tokencache.Options{BeforeAccess: r.hook("before"), BeforeWrite: r.hook("write"), AfterAccess: r.hook("after")}
}

func (r *recorder) want(t *testing.T, step string, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.lines, want) {
		t.Errorf("%s: the hooks were told\n%q, want\n%q", step, r.lines, want)
	}
	r.lines = nil
}

func TestHooksOrder(t *testing.T) {
	t.Parallel()
	r, a := &recorder{}, newAuthority()
	cache := newCache(t, newProvider(t), r.options())
	ticket := mustSignIn(t, cache, a, "read")
	r.want(t, "sign in", "before", "write changed tokens", "after changed tokens server")

	p := cache.Partition(ticket.Key())
	mustToken(t, p, a, "read")
	r.want(t, "hit", "before", "after tokens l1")

	mustToken(t, p, a, "write")
	r.want(t, "miss and refresh", "before", "after tokens",
		"before", "write changed tokens", "after changed tokens server")

	mustExpire(t, p)
	r.want(t, "expire", "before", "write changed tokens", "after changed tokens")

	if err := p.SignOut(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	r.want(t, "sign out", "before", "write changed", "after changed")

	_, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
	wantError(t, err, tokencache.ErrRemoved)
	r.want(t, "signed out", "before", "after error")
}

func TestHooksMembers(t *testing.T) {
	t.Parallel()
	r, a := &recorder{}, newAuthority()
	cache := newCache(t, newProvider(t), r.options())
	ticket := mustSignIn(t, cache, a, "read")
	p := cache.Partition(ticket.Key())
	r.seen = nil
	_, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"write"}, Tenant: ""}, a)
	if err != nil {
		t.Fatal(err)
	}
	after := r.seen[len(r.seen)-1]
	if after.ClientID != namespace.ClientID || after.Account != account || after.Key.Account() != account ||
		!slices.Equal(after.Scopes, []string{"write"}) || after.ApplicationCache || after.SuggestedKey == "" ||
		after.CorrelationID == "" || after.Tokens == nil || after.Err != nil {
		t.Errorf("members are missing: client %q, key %q, scopes %q, tokens %v", after.ClientID, after.SuggestedKey, after.Scopes, after.Tokens != nil)
	}
	if strings.Contains(after.SuggestedKey, account) {
		t.Error("the suggested key shows the account")
	}
	if left := time.Until(after.SuggestedExpiry); left < 13*24*time.Hour || left > 15*24*time.Hour {
		t.Errorf("the suggested expiry is %v away, want the idle timeout", left)
	}
	for _, s := range r.seen {
		if s.CorrelationID != after.CorrelationID {
			t.Error("one request has two correlation IDs")
		}
	}
	if got := len(after.Tokens.Entries()); got != 4 { // two access tokens, refresh token, ID token
		t.Errorf("the tokens have %d entries, want 4", got)
	}

	mustToken(t, cache.Partition(tokencache.ApplicationKey("", "api")), a, "api/.default")
	if last := r.seen[len(r.seen)-1]; !last.ApplicationCache || last.Account != "" {
		t.Error("an application's partition is reported as a user's")
	}
}

func TestHooksVeto(t *testing.T) {
	t.Parallel()
	veto := errors.New("vetoed")
	r, a := &recorder{fail: map[string]error{}}, newAuthority()
	provider := &faulty{Provider: newProvider(t)}
	cache := newCache(t, provider, r.options())
	ticket := mustSignIn(t, cache, a, "read")
	p := cache.Partition(ticket.Key())
	loads := provider.loads.Load()

	r.fail["before"] = veto
	_, err := p.Token(t.Context(), request("read"), a)
	wantError(t, err, tokencache.ErrUnavailable)
	wantError(t, err, veto)
	r.lines = nil
	wantError(t, p.SignOut(t.Context(), a), veto)
	r.want(t, "AfterAccess runs after a veto", "before", "after error")
	if provider.loads.Load() != loads {
		t.Error("the partition was read before BeforeAccess could stop it")
	}
	delete(r.fail, "before")

	r.fail["write"] = veto
	wantError(t, p.SignOut(t.Context(), a), veto)
	r.want(t, "nothing was removed", "before", "write changed", "after tokens error")
	_, err = cache.SignIn(t.Context(), a.signIn("read"))
	wantError(t, err, veto)
	tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"write"}}, a)
	if err != nil || tok.AccessToken == "" {
		t.Errorf("a token that was obtained was withdrawn: %v", err)
	}
	if last := r.seen[len(r.seen)-1]; last.Err == nil {
		t.Error("AfterAccess was not told that the token could not be stored")
	}
	delete(r.fail, "write")

	r.fail["after"] = veto
	if _, err := p.Token(t.Context(), request("read"), a); err != nil {
		t.Errorf("an error from AfterAccess reached the caller: %v", err)
	}
}

// Whoever audits sign-outs must hear of those that fail.
func TestHooksOfASignOutThatCannotRead(t *testing.T) {
	t.Parallel()
	r, a := &recorder{}, newAuthority()
	provider := &faulty{Provider: newProvider(t)}
	cache := newCache(t, provider, r.options())
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	r.lines = nil
	provider.set(refuseLoads, nil)
	wantError(t, p.SignOut(t.Context(), a), tokencache.ErrUnavailable)
	r.want(t, "sign out", "before", "after error")
}

// Each partition is told under its own name, and all as one request.
func TestHooksOfSignOutEverywhere(t *testing.T) {
	t.Parallel()
	r, a := &recorder{}, newAuthority()
	cache := newCache(t, newProvider(t), r.options())
	ticket := mustSignIn(t, cache, a, "read")
	mustToken(t, cache.Partition(tokencache.AssertionKey(mustVerify(t, account, "incoming"))), a, "read")
	want := map[string]bool{r.seen[0].SuggestedKey: true, r.seen[len(r.seen)-1].SuggestedKey: true}
	if len(want) != 2 {
		t.Fatal("the two partitions have the same name")
	}
	r.seen = nil
	if err := cache.Partition(ticket.Key()).SignOutEverywhere(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	told, correlations := map[string]bool{}, map[string]bool{}
	for _, s := range r.seen {
		told[s.SuggestedKey], correlations[s.CorrelationID] = true, true
	}
	if !maps.Equal(told, want) {
		t.Errorf("the hooks were told of %d partitions, want the two that were removed", len(told))
	}
	if len(correlations) != 1 {
		t.Errorf("one request has %d correlation IDs", len(correlations))
	}
}

func TestHookPanicsReachTheCaller(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	var armed atomic.Bool // what was not stored is tried again behind the test's back
	cache := newCache(t, newProvider(t), &tokencache.Options{BeforeWrite: func(context.Context, *tokencache.Access) error {
		if armed.Load() {
			panic("in a hook")
		}
		return nil
	}})
	ticket := mustSignIn(t, cache, a, "read")
	armed.Store(true)
	defer func() {
		if r := recover(); fmt.Sprint(r) != "in a hook" {
			t.Errorf("recovered %v", r)
		}
		armed.Store(false)
		mustToken(t, cache.Partition(ticket.Key()), nil, "read")
	}()
	_, _ = cache.Partition(ticket.Key()).Token(t.Context(), tokencache.Request{Scopes: []string{"write"}}, a)
}
