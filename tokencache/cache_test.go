package tokencache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	local := newProvider(t)
	remote := &faulty{Provider: local, hide: func(c *tokencache.Capabilities) { c.InProcess = false }}
	encrypting := &faulty{Provider: local, hide: func(c *tokencache.Capabilities) { c.InProcess, c.Encrypts = false, true }}
	good := newKeys(t)
	for name, tt := range map[string]struct {
		provider tokencache.Provider
		ns       tokencache.Namespace
		opts     *tokencache.Options
		want     string // "" for success
	}{
		"in process, nil options":    {local, namespace, nil, ""},
		"no provider":                {nil, namespace, nil, "provider is nil"},
		"no issuer":                  {local, tokencache.Namespace{ClientID: "c"}, nil, "issuer"},
		"no client":                  {local, tokencache.Namespace{Issuer: "i"}, nil, "client ID"},
		"remote without keys":        {remote, namespace, nil, "AllowUnencryptedStorage"},
		"remote, encrypts by itself": {encrypting, namespace, nil, ""},
		"remote, plaintext allowed":  {remote, namespace, &tokencache.Options{AllowUnencryptedStorage: true}, ""},
		"remote with keys":           {remote, namespace, &tokencache.Options{Keys: good}, ""},
		"keys without names":         {remote, namespace, &tokencache.Options{Keys: &tokencache.Keys{Seal: good.Seal}}, "Keys.Names"},
		"zero name key":              {remote, namespace, &tokencache.Options{Keys: &tokencache.Keys{Names: make([]byte, 32), Seal: good.Seal}}, "Keys.Names"},
		"nil key ring":               {remote, namespace, &tokencache.Options{Keys: &tokencache.Keys{Names: random32(), Seal: (*tokencache.KeyRing)(nil)}}, "Keys.Seal"},
		"zero key ring":              {remote, namespace, &tokencache.Options{Keys: &tokencache.Keys{Names: random32(), Seal: &tokencache.KeyRing{}}}, "Keys.Seal"},
		"keys without sealing":       {remote, namespace, &tokencache.Options{Keys: &tokencache.Keys{Names: random32()}, AllowUnencryptedStorage: true}, "Keys.Seal"},
		"no bound on L1":             {local, namespace, &tokencache.Options{L1MaxBytes: math.MaxUint64}, ""},
		"negative duration":          {local, namespace, &tokencache.Options{L1MaxAge: -1}, "negative"},
	} {
		c, err := tokencache.New(tt.provider, tt.ns, tt.opts)
		if c != nil {
			_ = c.Close(t.Context())
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	provider, a := newProvider(t), newAuthority()
	one, two := newCache(t, provider, nil), newCache(t, provider, nil)
	ticket := mustSignIn(t, one, a, "read")
	for i, tt := range []struct {
		cache *tokencache.Cache
		scope string
		want  tokencache.Source
	}{
		{one, "read", tokencache.SourceL1},
		{two, "read", tokencache.SourceProvider},
		{two, "read", tokencache.SourceL1},
		{two, "write", tokencache.SourceServer},
		{two, "write", tokencache.SourceL1},
		{one, "write", tokencache.SourceProvider}, // told of the change
	} {
		if tok := mustToken(t, tt.cache.Partition(ticket.Key()), a, tt.scope); tok.Source != tt.want {
			t.Errorf("step %d: from %v, want %v", i, tok.Source, tt.want)
		}
	}
}

// Scopes joined as in a scope parameter are the same request: a token for it is
// found, and not asked for each time.
func TestScopesJoinedBySpaces(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	p := cache.Partition(mustSignIn(t, cache, a, "read", "write").Key())
	for _, scopes := range [][]string{{"read write"}, {"write\tread", ""}, {" read ", "write\n"}} {
		mustToken(t, p, a, scopes...)
	}
	a.wantRefreshes(t, 0)
	mustToken(t, p, a, "list read")
	mustToken(t, p, a, "read list")
	a.wantRefreshes(t, 1)
}

// A request that asks for many tokens reads the provider once, also when there
// is nothing to be kept in L1.
func TestOneReadPerPartition(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
	cache := newCache(t, provider, nil)
	ticket := mustSignIn(t, cache, a, "read")
	other := newCache(t, provider, nil)
	for name, key := range map[string]tokencache.Key{"present": ticket.Key(), "absent": tokencache.AccountKey("nobody")} {
		before := provider.loads.Load()
		p := other.Partition(key)
		together(50, func(int) {
			_, _ = p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, nil)
		})
		for range 5 {
			_ = p.Check(t.Context())
		}
		if got := provider.loads.Load() - before; got != 1 {
			t.Errorf("%s: %d provider reads, want 1", name, got)
		}
	}
}

func TestPartitionCostsNothing(t *testing.T) {
	t.Parallel()
	provider := &faulty{Provider: newProvider(t)}
	cache := newCache(t, provider, nil)
	ctx := tokencache.NewContext(t.Context(), cache.Partition(tokencache.AccountKey("somebody")))
	if p, ok := cache.FromContext(ctx); !ok || p.Key().Account() != "somebody" {
		t.Error("the context does not carry the partition")
	}
	if _, ok := newCache(t, provider, nil).FromContext(ctx); ok {
		t.Error("the context carries a partition of another cache")
	}
	if provider.loads.Load() != 0 {
		t.Error("the provider was asked")
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	cache := newCache(t, newProvider(t), nil)
	for _, key := range []tokencache.Key{{}, tokencache.AccountKey(""), tokencache.SessionKey("a", "")} {
		p := cache.Partition(key)
		_, err := p.Token(t.Context(), tokencache.Request{}, newAuthority())
		for what, err := range map[string]error{
			"Token": err, "Check": p.Check(t.Context()), "Expire": p.Expire(t.Context()),
			"SignOut": p.SignOut(t.Context(), nil), "SignOutEverywhere": p.SignOutEverywhere(t.Context(), nil),
		} {
			if err == nil || !strings.Contains(err.Error(), "key") {
				t.Errorf("%v: %s: got %v", key, what, err)
			}
		}
	}
}

// A writer that does not take leases comes between: both changes are kept.
func TestConflictIsMerged(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
	cache := newCache(t, provider, nil)
	ticket := mustSignIn(t, cache, a, "read")
	second := newCache(t, provider.Provider, nil)
	var once sync.Once
	provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		once.Do(func() { // a second browser signs in just before the refresh is stored
			mustSignIn(t, second, a, "write")
		})
		return provider.Provider.Save(ctx, n, r, c)
	})
	mustToken(t, cache.Partition(ticket.Key()), a, "list")
	reader := newCache(t, provider, nil).Partition(ticket.Key())
	for _, scope := range []string{"read", "write", "list"} {
		mustToken(t, reader, nil, scope)
	}
	// The refresh token of the sign-in stays: the refreshed one replaces only
	// the one it was obtained with.
	mustExpire(t, reader)
	mustToken(t, reader, a, "read")
	a.wantRefreshes(t, 2)
}

func TestEvictedDuringRefresh(t *testing.T) {
	t.Parallel()
	provider, a := &faulty{Provider: newProvider(t)}, newAuthority()
	cache := newCache(t, provider, nil)
	ticket := mustSignIn(t, cache, a, "read")
	mustExpire(t, cache.Partition(ticket.Key()))
	var gone atomic.Bool
	provider.set(func(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
		if gone.Load() {
			return tokencache.Record{}, tokencache.ErrNotFound
		}
		return provider.Provider.Load(ctx, n)
	}, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		if _, versioned := c.Version(); versioned && gone.Load() {
			return tokencache.ErrConflict
		}
		gone.Store(false)
		return provider.Provider.Save(ctx, n, r, tokencache.Always())
	})
	a.before = func(context.Context) error { gone.Store(true); return nil }
	mustToken(t, cache.Partition(ticket.Key()), a, "read")
	a.before = nil
	provider.set(nil, nil)
	mustExpire(t, cache.Partition(ticket.Key()))
	mustToken(t, cache.Partition(ticket.Key()), a, "read")
	a.wantRefreshes(t, 2) // the rotated refresh token was kept, under the same ticket
}

func TestSealedStorage(t *testing.T) {
	t.Parallel()
	inner := newProvider(t)
	provider := &faulty{Provider: inner, hide: func(c *tokencache.Capabilities) { c.InProcess = false }}
	var mu sync.Mutex
	stored := map[tokencache.Name]tokencache.Record{}
	provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		mu.Lock()
		stored[n] = r
		mu.Unlock()
		return inner.Save(ctx, n, r, c)
	})
	keys, a := newKeys(t), newAuthority()
	cache := newCache(t, provider, noCopies(tokencache.Options{Keys: keys}))
	ticket, err := cache.SignIn(t.Context(), a.signInAs("marker-account", "marker-scope"))
	if err != nil {
		t.Fatal(err)
	}
	p := func() *tokencache.Partition { return cache.Partition(ticket.Key()) }
	mustToken(t, p(), nil, "marker-scope")
	for name, rec := range stored {
		text := name.Owner + name.Partition + string(rec.Sealed)
		for _, secret := range []string{"marker", "refresh-", "access-", "AccessToken", "example.test"} {
			if strings.Contains(text, secret) {
				t.Errorf("the store sees %q", secret)
			}
		}
	}

	t.Run("unreadable", func(t *testing.T) {
		for what, spoil := range map[string]func(*tokencache.Record){
			"tampered":           func(r *tokencache.Record) { r.Sealed = bytes.Clone(r.Sealed); r.Sealed[40] ^= 1 },
			"truncated":          func(r *tokencache.Record) { r.Sealed = r.Sealed[:len(r.Sealed)/2] },
			"old under new":      func(r *tokencache.Record) { r.Version = tokencache.NewVersion() },
			"plaintext":          func(r *tokencache.Record) { r.Sealed = []byte(`{"RefreshToken":{}}`) },
			"labelled plaintext": func(r *tokencache.Record) { r.Sealed = append([]byte{'C', 'C', 1, 0}, r.Sealed[4:]...) },
		} {
			provider.set(func(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
				r, err := inner.Load(ctx, n)
				spoil(&r)
				return r, err
			}, nil)
			_, err := p().Token(t.Context(), tokencache.Request{Scopes: []string{"marker-scope"}}, a)
			if !errors.Is(err, tokencache.ErrUnreadable) || !errors.Is(err, tokencache.ErrNoTokens) {
				t.Errorf("%s: got %v, want ErrUnreadable", what, err)
			}
		}
		provider.set(nil, nil)
		mustToken(t, p(), nil, "marker-scope") // it was kept
		a.wantRefreshes(t, 0)
	})

	t.Run("lost key, healed by a sign-in", func(t *testing.T) {
		others := newKeys(t)
		others.Names = keys.Names
		other := newCache(t, provider, noCopies(tokencache.Options{Keys: others}))
		wantError(t, other.Partition(tokencache.AccountKey("marker-account")).Check(t.Context()), tokencache.ErrUnreadable)
		wantError(t, other.Partition(ticket.Key()).Expire(t.Context()), tokencache.ErrUnreadable)
		again, err := other.SignIn(t.Context(), a.signInAs("marker-account", "marker-scope"))
		if err != nil {
			t.Fatal(err)
		}
		mustToken(t, other.Partition(again.Key()), nil, "marker-scope")
		wantError(t, p().Check(t.Context()), tokencache.ErrUnreadable)
	})
}

func TestRecordsOfOneUserUnderAnothersName(t *testing.T) {
	t.Parallel()
	inner, a := newProvider(t), newAuthority()
	provider := &faulty{Provider: inner, hide: func(c *tokencache.Capabilities) { c.InProcess = false }}
	cache := newCache(t, provider, noCopies(tokencache.Options{Keys: newKeys(t)}))
	var alice tokencache.Record
	provider.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		alice = r
		return inner.Save(ctx, n, r, c)
	})
	if _, err := cache.SignIn(t.Context(), a.signInAs("alice", "read")); err != nil {
		t.Fatal(err)
	}
	provider.set(func(context.Context, tokencache.Name) (tokencache.Record, error) { return alice, nil }, nil)
	tok, err := cache.Partition(tokencache.AccountKey("bob")).Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, a)
	wantError(t, err, tokencache.ErrUnreadable)
	if tok.AccessToken != "" {
		t.Error("bob was served alice's token")
	}
}

func TestTokensShowNoSecrets(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	ticket := mustSignIn(t, cache, a, "read")
	tokens, err := cache.Partition(ticket.Key()).Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entries := tokens.Entries()
	b, err := json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, e := range entries {
		kinds[e.Kind] = true
	}
	if !kinds["access"] || !kinds["refresh"] || !kinds["id"] {
		t.Errorf("got the kinds %v", kinds)
	}
	for _, secret := range []string{"refresh-", "access-", "id-token", account} {
		if strings.Contains(string(b), secret) {
			t.Errorf("the entries show %q", secret)
		}
	}
	if accounts := tokens.Accounts(); len(accounts) != 1 || accounts[0].Username != "user@example.test" {
		t.Errorf("got %d accounts, or another user", len(accounts))
	}
}

func TestCloseWaitsForFlights(t *testing.T) {
	t.Parallel()
	provider, a := newProvider(t), newAuthority()
	cache, err := tokencache.New(provider, namespace, nil)
	if err != nil {
		t.Fatal(err)
	}
	ticket := mustSignIn(t, cache, a, "read")
	mustExpire(t, cache.Partition(ticket.Key()))
	entered, proceed := a.hold()
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-entered; leave() }()
	_, err = cache.Partition(ticket.Key()).Token(ctx, tokencache.Request{Scopes: []string{"read"}}, a)
	wantError(t, err, context.Canceled)

	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	wantError(t, cache.Close(short), context.DeadlineExceeded)
	close(proceed)
	for range 2 { // closing again is harmless
		if err := cache.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// The flight's tokens are stored.
	mustToken(t, newCache(t, provider, nil).Partition(ticket.Key()), nil, "read")
	a.wantRefreshes(t, 1)
	_, err = cache.Partition(ticket.Key()).Token(t.Context(), tokencache.Request{Scopes: []string{"write"}}, a)
	if err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a refresh after Close: %v", err)
	}
}
