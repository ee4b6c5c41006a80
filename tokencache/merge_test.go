package tokencache_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// library is another one that works with the unified schema: it spends the refresh token
// that it finds, and writes items under keys, and an environment, of its own.
type library struct {
	a           *authority
	environment string
}

type items map[string]map[string]map[string]any

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func itemsOf(t *testing.T, tokens *tokencache.Tokens) items {
	t.Helper()
	b, err := tokens.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	d := items{}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d items) tokens(t *testing.T) *tokencache.Tokens {
	t.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var tokens tokencache.Tokens
	if err := tokens.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return &tokens
}

func (d items) put(section, key string, item map[string]any) {
	if d[section] == nil {
		d[section] = map[string]map[string]any{}
	}
	d[section][key] = item
}

// refresh obtains a token for the scope.
func (l *library) refresh(t *testing.T, d items, scope string) {
	t.Helper()
	for key, item := range d["RefreshToken"] {
		g, err := l.a.Refresh(t.Context(), tokencache.Secret(item["secret"].(string)), request(scope))
		if err != nil {
			t.Fatal(err)
		}
		delete(d["RefreshToken"], key)
		l.fill(d, account, g)
		return
	}
	t.Fatal("there is no refresh token")
}

func (l *library) fill(d items, account string, g tokencache.Grant) {
	now := time.Now()
	d.put("RefreshToken", "own "+string(g.RefreshToken), l.item("RefreshToken", account, g.RefreshToken))
	access := l.item("AccessToken", account, g.AccessToken)
	access["realm"], access["target"] = "utid", g.Scopes[0]
	access["cached_at"], access["expires_on"] = fmt.Sprint(now.Unix()), fmt.Sprint(now.Add(time.Hour).Unix())
	d.put("AccessToken", "own "+string(g.AccessToken), access)
}

func (l *library) item(kind, account string, secret tokencache.Secret) map[string]any {
	return map[string]any{
		"home_account_id": account, "environment": l.environment, "client_id": namespace.ClientID,
		"credential_type": kind, "secret": string(secret),
	}
}

// What another library has obtained is found by every machine, and the refresh token
// that it has left is the only one, whatever it calls the server.
func TestMerge(t *testing.T) {
	t.Parallel()
	for _, environment := range []string{"login.example", "login.alias.example"} {
		t.Run(environment, func(t *testing.T) {
			t.Parallel()
			a, provider := newAuthority(), newProvider(t)
			one, two := newCache(t, provider, nil), newCache(t, provider, nil)
			ticket := mustSignIn(t, one, a, "read")
			p := one.Partition(ticket.Key())
			before, err := p.Tokens(t.Context())
			must(t, err)
			d := itemsOf(t, before)
			(&library{a, environment}).refresh(t, d, "write")
			must(t, p.Merge(t.Context(), before, d.tokens(t)))
			must(t, p.Merge(t.Context(), before, d.tokens(t))) // twice is once
			other := two.Partition(ticket.Key())
			for _, scope := range []string{"read", "write"} {
				mustToken(t, other, nil, scope)
			}
			if after, err := other.Tokens(t.Context()); err != nil || len(itemsOf(t, after)["RefreshToken"]) != 1 {
				t.Errorf("more than one refresh token is left: %v, %v", after, err)
			}
			mustExpire(t, other)
			mustToken(t, other, a, "write")
			a.wantRefreshes(t, 2)
		})
	}
}

// A library that has a key of its own for a refresh token leaves the one that it has
// used beside the new one, and dates neither. What was given to it is not new.
func TestMergeBesideOld(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	for i := range 2 {
		before, err := p.Tokens(t.Context())
		must(t, err)
		d, used := itemsOf(t, before), itemsOf(t, before)["RefreshToken"]
		(&library{a, "login.example"}).refresh(t, d, "write")
		maps.Copy(d["RefreshToken"], used)
		must(t, p.Merge(t.Context(), before, d.tokens(t)))
		mustExpire(t, p)
		mustToken(t, p, a, "read")
		a.wantRefreshes(t, int64(2*i+2))
	}
}

// Who is going to spend the refresh token gets the one that is stored, whatever this
// process has a copy of.
func TestReload(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	provider := &faulty{Provider: newProvider(t), hide: func(c *tokencache.Capabilities) { c.Watcher = nil }}
	one, two := newCache(t, provider, nil), newCache(t, provider, nil)
	ticket := mustSignIn(t, one, a, "read")
	p := one.Partition(ticket.Key())
	mustToken(t, two.Partition(ticket.Key()), a, "write")
	for name, c := range map[string]struct {
		read func(context.Context) (*tokencache.Tokens, error)
		want int
	}{"a copy": {p.Tokens, 1}, "reloaded": {p.Reload, 2}} {
		tokens, err := c.read(t.Context())
		must(t, err)
		if got := len(itemsOf(t, tokens)["AccessToken"]); got != c.want {
			t.Errorf("%s: %d access tokens, want %d", name, got, c.want)
		}
	}
	before, err := p.Reload(t.Context())
	must(t, err)
	d := itemsOf(t, before)
	(&library{a, "login.example"}).refresh(t, d, "other")
	provider.set(func(ctx context.Context, n tokencache.Name) (tokencache.Record, error) { // evicted meanwhile
		r, err := provider.Provider.Load(ctx, n)
		return tokencache.Record{Mark: r.Mark}, cmp.Or(err, tokencache.ErrNotFound)
	}, func(ctx context.Context, n tokencache.Name, r tokencache.Record, _ tokencache.Condition) error {
		return provider.Provider.Save(ctx, n, r, tokencache.Always())
	})
	must(t, p.Merge(t.Context(), before, d.tokens(t)))
	provider.set(nil, nil)
	a.wantRefreshes(t, 2)
	mustToken(t, two.Partition(ticket.Key()), a, "fourth")
	a.wantRefreshes(t, 3)
	must(t, two.Partition(ticket.Key()).SignOut(t.Context(), nil))
	_, err = p.Reload(t.Context())
	wantError(t, err, tokencache.ErrRemoved)
	provider.set(refuseLoads, nil)
	_, err = p.Reload(t.Context())
	wantError(t, err, tokencache.ErrUnavailable)
}

// What others have stored meanwhile is newer, and stays.
func TestMergeLate(t *testing.T) {
	t.Parallel()
	a, provider := newAuthority(), newProvider(t)
	one, two := newCache(t, provider, nil), newCache(t, provider, nil)
	ticket := mustSignIn(t, one, a, "read")
	p := one.Partition(ticket.Key())
	before, err := p.Tokens(t.Context())
	must(t, err)
	mustToken(t, two.Partition(ticket.Key()), a, "other")
	d := itemsOf(t, before)
	l := &library{a, "login.example"}
	l.fill(d, account, tokencache.Grant{RefreshToken: "marker-late", AccessToken: "marker-late-access", Scopes: []string{"write"}})
	must(t, p.Merge(t.Context(), before, d.tokens(t)))
	for _, scope := range []string{"read", "write", "other"} {
		mustToken(t, two.Partition(ticket.Key()), nil, scope)
	}
	mustExpire(t, p)
	mustToken(t, p, a, "read") // with the refresh token of the other machine
	a.wantRefreshes(t, 2)
}

// A user who has signed out is not signed in again by it, nor is what belongs to a later
// sign-in touched; and nobody's tokens get among those of somebody else.
func TestMergeRefused(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	p := cache.Partition(tokencache.AccountKey(account))
	l := &library{a, "login.example"}
	empty := items{}
	l.fill(empty, account, tokencache.Grant{RefreshToken: "marker-none", AccessToken: "marker-none", Scopes: []string{"write"}})
	wantError(t, p.Merge(t.Context(), &tokencache.Tokens{}, empty.tokens(t)), tokencache.ErrNoTokens)

	ticket := mustSignIn(t, cache, a, "read")
	before, err := cache.Partition(ticket.Key()).Tokens(t.Context())
	must(t, err)
	d := itemsOf(t, before)
	l.refresh(t, d, "write")
	foreign := itemsOf(t, before)
	l.fill(foreign, "somebody.else", tokencache.Grant{RefreshToken: "marker-foreign", AccessToken: "marker-foreign", Scopes: []string{"write"}})
	if err := p.Merge(t.Context(), before, foreign.tokens(t)); err == nil {
		t.Error("another account's tokens were taken")
	}
	must(t, p.SignOut(t.Context(), nil))
	wantError(t, p.Merge(t.Context(), before, d.tokens(t)), tokencache.ErrRemoved)
	mustSignIn(t, cache, a, "read")
	wantError(t, p.Merge(t.Context(), before, d.tokens(t)), tokencache.ErrRemoved)
	if _, err := p.Token(t.Context(), request("write"), nil); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("a token from before the sign-in is found: %v", err)
	}
	must(t, p.SignOutEverywhere(t.Context(), nil))
	wantError(t, p.Merge(t.Context(), before, d.tokens(t)), tokencache.ErrRemoved)

	incoming := mustVerify(t, account, "marker-incoming")
	wantError(t, cache.Partition(tokencache.AssertionKey(incoming)).Merge(t.Context(), before, d.tokens(t)), errors.ErrUnsupported)
}

// The application's own tokens need no sign-in.
func TestMergeOfApplication(t *testing.T) {
	t.Parallel()
	cache := newCache(t, newProvider(t), nil)
	p := cache.Partition(tokencache.ApplicationKey("", "api://one"))
	d := items{}
	l := &library{newAuthority(), "login.example"}
	l.fill(d, "", tokencache.Grant{AccessToken: "marker-application", Scopes: []string{"api://one/.default"}})
	delete(d["AccessToken"]["own marker-application"], "realm")
	delete(d, "RefreshToken")
	must(t, p.Merge(t.Context(), &tokencache.Tokens{}, d.tokens(t)))
	if tok := mustToken(t, p, nil, "api://one/.default"); tok.AccessToken != "marker-application" {
		t.Error("another token was stored")
	}
}

// What was obtained is not lost while the provider is down, at whatever call that begins.
func TestMergeInOutage(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*faulty){
		"loads": func(f *faulty) { f.set(refuseLoads, refuseSaves) },
		"saves": func(f *faulty) { f.set(nil, refuseSaves) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAuthority()
				faults := providertest.NewFaults(newProvider(t))
				provider := &faulty{Provider: faults}
				cache := newCache(t, provider, nil)
				ticket := mustSignIn(t, cache, a, "read")
				p := cache.Partition(ticket.Key())
				before, err := p.Tokens(t.Context())
				must(t, err)
				d := itemsOf(t, before)
				(&library{a, "login.example"}).refresh(t, d, "write")
				down(provider)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				must(t, p.Merge(ctx, before, d.tokens(t)))
				mustToken(t, cache.Partition(ticket.Key()), nil, "write")
				provider.set(nil, nil)
				time.Sleep(time.Minute)
				other := newCache(t, faults, nil).Partition(ticket.Key())
				mustToken(t, other, nil, "write")
				mustExpire(t, other)
				mustToken(t, other, a, "read")
				a.wantRefreshes(t, 2)
			})
		})
	}
}

// A sign-in can bring a whole cache that another library has filled. Of it is taken what is
// the account's and this client's.
func TestSignInWithTokens(t *testing.T) {
	t.Parallel()
	a := newAuthority()
	cache := newCache(t, newProvider(t), nil)
	g, err := a.signIn("read")(t.Context())
	must(t, err)
	d, l := items{}, &library{a, "login.alias.example"}
	l.fill(d, "UID.utid", g)
	l.fill(d, "somebody.else", tokencache.Grant{RefreshToken: "marker-else", AccessToken: "marker-else", Scopes: []string{"else"}})
	stale := l.item("RefreshToken", account, "marker-stale")
	stale["environment"], stale["last_modification_time"] = "login.example", "1000"
	d["RefreshToken"]["own "+string(g.RefreshToken)]["last_modification_time"] = "2000"
	d.put("RefreshToken", "stale", stale)
	behalf := l.item("AccessToken", account, "marker-behalf")
	behalf["user_assertion_hash"], behalf["target"] = "marker-hash", "behalf"
	behalf["expires_on"] = fmt.Sprint(time.Now().Add(time.Hour).Unix())
	d.put("AccessToken", "behalf", behalf)
	client := l.item("RefreshToken", account, "marker-client")
	client["client_id"] = "another"
	d.put("RefreshToken", "client", client)

	with := func(id string, tokens *tokencache.Tokens) (tokencache.Ticket, error) {
		return cache.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
			return tokencache.Grant{Account: tokencache.Account{ID: id}, Tokens: tokens}, nil
		})
	}
	for _, nothing := range []*tokencache.Tokens{{}, d.tokens(t)} {
		_, err := with("nobody.known", nothing)
		wantError(t, err, tokencache.ErrNoTokens)
	}
	ticket, err := with(account, d.tokens(t))
	must(t, err)
	p := cache.Partition(ticket.Key())
	if tok := mustToken(t, p, nil, "read"); tok.AccessToken != g.AccessToken {
		t.Error("another token was taken over")
	}
	for _, scope := range []string{"else", "behalf"} {
		if _, err := p.Token(t.Context(), request(scope), nil); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("a token of the scope %s: %v", scope, err)
		}
	}
	tokens, err := p.Tokens(t.Context())
	must(t, err)
	left := itemsOf(t, tokens)
	if len(left["RefreshToken"]) != 1 || len(left["AccessToken"]) != 1 || len(left["AppMetadata"]) != 1 {
		t.Errorf("left are %v, and %d items of application metadata", tokens, len(left["AppMetadata"]))
	}
	mustExpire(t, p)
	mustToken(t, p, a, "read")
	a.wantRefreshes(t, 1)
	if _, err := with(account, d.tokens(t)); err != nil { // once more, in the place of what is there
		t.Fatal(err)
	}
}
