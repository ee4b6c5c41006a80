package migration_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	quiet     = slog.New(slog.DiscardHandler)
	namespace = tokencache.Namespace{Issuer: "https://login.example", ClientID: "app"}
)

// lab has servers, on which each store has a prefix of its own.
type lab struct {
	redis    *testserver.Redis
	postgres *testserver.Postgres
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return &lab{testserver.NewRedis(t), testserver.NewPostgres(t)}
}

// open returns a provider over a new store.
func (l *lab) open(t *testing.T, kind string) tokencache.Provider {
	t.Helper()
	id := strings.ToLower(tokencache.NewVersion().String())
	switch kind {
	case "redis":
		o := redisprovider.RecommendedOptions()
		o.Addrs = []string{l.redis.Addr()}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = 5*time.Second, 5*time.Second, 5*time.Second, 5*time.Second
		client := redis.NewUniversalClient(o)
		t.Cleanup(func() { _ = client.Close() })
		p, err := redisprovider.New(client, &redisprovider.Options{Log: quiet, Prefix: id + ":"})
		check(t, err)
		t.Cleanup(func() { check(t, p.Close(context.Background())) })
		return p
	case "postgres":
		pool, err := pgxpool.New(t.Context(), l.postgres.URL())
		check(t, err)
		t.Cleanup(pool.Close)
		return newSQL(t, sqlprovider.Postgres(pool, &sqlprovider.Options{Log: quiet, Prefix: "t" + id[:20] + "_"}))
	case "sqlite":
		file := filepath.Join(t.TempDir(), "tokens.db")
		db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(2000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
		check(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return newSQL(t, sqlprovider.SQLite(db, &sqlprovider.Options{Log: quiet}))
	}
	return newMemory(t)
}

func newMemory(t *testing.T) tokencache.Provider {
	t.Helper()
	p, err := memory.New(nil)
	check(t, err)
	t.Cleanup(func() { check(t, p.Close(context.Background())) })
	return p
}

func newSQL(t *testing.T, db *sqlprovider.Database) tokencache.Provider {
	t.Helper()
	check(t, db.Migrate(t.Context()))
	p, err := sqlprovider.New(t.Context(), db)
	check(t, err)
	t.Cleanup(func() { check(t, p.Close(context.Background())) })
	return p
}

func newKeys(t *testing.T) *tokencache.Keys {
	t.Helper()
	ring, err := tokencache.NewKeyRing(random())
	check(t, err)
	return &tokencache.Keys{Names: random(), Seal: ring}
}

func random() []byte {
	b := make([]byte, tokencache.KeySize)
	_, _ = rand.Read(b) // never fails
	return b
}

// newCache is a machine's.
func newCache(t *testing.T, p tokencache.Provider, keys *tokencache.Keys) *tokencache.Cache {
	t.Helper()
	return newCacheWith(t, p, &tokencache.Options{Keys: keys})
}

func newCacheWith(t *testing.T, p tokencache.Provider, o *tokencache.Options) *tokencache.Cache {
	t.Helper()
	o.ProviderTimeout, o.L1MaxAge = 10*time.Second, time.Microsecond // nothing is kept here
	c, err := tokencache.New(p, namespace, o)
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		check(t, c.Close(ctx))
	})
	return c
}

// authority rotates refresh tokens strictly: one that is used twice ends the sign-in.
type authority struct {
	mu     sync.Mutex
	issued int
	valid  map[tokencache.Secret]string // refresh tokens, and whose sign-in they are of
	spent  map[tokencache.Secret]string
	reuses int
}

func newAuthority() *authority {
	return &authority{valid: map[tokencache.Secret]string{}, spent: map[tokencache.Secret]string{}}
}

// grant is called with the lock held.
func (a *authority) grant(family string) tokencache.Grant {
	a.issued++
	g := tokencache.Grant{
		AccessToken:  tokencache.Secret(fmt.Sprintf("marker-at-%s-%d", family, a.issued)),
		RefreshToken: tokencache.Secret(fmt.Sprintf("marker-rt-%s-%d", family, a.issued)),
		Scopes:       []string{"tasks"}, Expires: time.Now().Add(time.Hour),
	}
	a.valid[g.RefreshToken] = family
	return g
}

func (a *authority) Refresh(_ context.Context, rt tokencache.Secret, _ tokencache.Request) (tokencache.Grant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	family, ok := a.valid[rt]
	if !ok {
		if family, ok = a.spent[rt]; ok {
			a.reuses++
			for other, of := range a.valid {
				if of == family {
					delete(a.valid, other)
				}
			}
		}
		return tokencache.Grant{}, tokencache.ErrInvalidGrant
	}
	delete(a.valid, rt)
	a.spent[rt] = family
	return a.grant(family), nil
}

func (a *authority) Revoke(_ context.Context, rt tokencache.Secret) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.valid, rt)
	return nil
}

func (a *authority) reused() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reuses
}

// signIn signs a user in, into a session of its own unless that is empty.
func (a *authority) signIn(t *testing.T, c *tokencache.Cache, user, session string) tokencache.Ticket {
	t.Helper()
	exchange := func(context.Context) (tokencache.Grant, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		g := a.grant(user + "-" + tokencache.NewVersion().String()[:8])
		g.Account.ID = user
		return g, nil
	}
	var ticket tokencache.Ticket
	var err error
	if session == "" {
		ticket, err = c.SignIn(t.Context(), exchange)
	} else {
		ticket, err = c.SignInSession(t.Context(), session, exchange)
	}
	check(t, err)
	return ticket
}

var wanted = tokencache.Request{Scopes: []string{"tasks"}}

// token is what a request of the session gets.
func (a *authority) token(t *testing.T, c *tokencache.Cache, ticket tokencache.Ticket) tokencache.Token {
	t.Helper()
	tok, err := c.Partition(ticket.Key()).Token(t.Context(), wanted, a)
	check(t, err)
	return tok
}

// refresh makes the session's next token a new one, and gets that.
func (a *authority) refresh(t *testing.T, c *tokencache.Cache, ticket tokencache.Ticket) tokencache.Token {
	t.Helper()
	before := a.token(t, c, ticket)
	check(t, c.Partition(ticket.Key()).Expire(t.Context()))
	tok := a.token(t, c, ticket)
	if tok.AccessToken == before.AccessToken {
		t.Fatal("the token is not a new one")
	}
	return tok
}

// wantOut wants the session to have no tokens.
func (a *authority) wantOut(t *testing.T, c *tokencache.Cache, ticket tokencache.Ticket, who string) {
	t.Helper()
	if _, err := c.Partition(ticket.Key()).Token(t.Context(), wanted, a); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("%s: got error %v, want ErrNoTokens", who, err)
	}
}

// wantToken wants the session to be served that token from the store.
func (a *authority) wantToken(t *testing.T, c *tokencache.Cache, ticket tokencache.Ticket, want tokencache.Token, who string) {
	t.Helper()
	got, err := c.Partition(ticket.Key()).Token(t.Context(), wanted, a)
	if err != nil || got.AccessToken != want.AccessToken || !got.Expires.Equal(want.Expires) {
		t.Errorf("%s: another token, or none: error %v", who, err)
	}
}

// migrate must succeed, and tells how it went.
func migrate(t *testing.T, from, to tokencache.Provider, o *tokencache.MigrateOptions) tokencache.MigrateResult {
	t.Helper()
	r, err := tokencache.Migrate(t.Context(), from, to, o)
	if err != nil || r.Cursor != "" || r.Failed+r.Refused != 0 {
		t.Fatalf("Migrate: %+v, error %v", r, err)
	}
	if r.Names != r.Copied+r.Same+r.Left+r.Removed+r.Gone {
		t.Errorf("the numbers do not add up: %+v", r)
	}
	return r
}

// names goes through all that a provider has.
func names(t *testing.T, p tokencache.Provider) (all []tokencache.Name) {
	t.Helper()
	seen := make(map[tokencache.Name]bool)
	for cursor := ""; ; {
		page, next, err := p.Capabilities().Lister.Names(t.Context(), cursor)
		check(t, err)
		for _, n := range page {
			if !seen[n] {
				all = append(all, n)
			}
			seen[n] = true
		}
		if cursor = next; next == "" {
			return all
		}
	}
}

// slack is by how much expiries may differ here. Databases keep what is left of a life,
// and a busy machine takes its time to tell them.
const slack = 30 * time.Second

// wantSame wants all that is in one store to be in the other, byte by byte.
func wantSame(t *testing.T, from, to tokencache.Provider) {
	t.Helper()
	for _, n := range names(t, from) {
		want, err := from.Load(t.Context(), n)
		if errors.Is(err, tokencache.ErrNotFound) {
			continue
		}
		check(t, err)
		got, err := to.Load(t.Context(), n)
		switch {
		case err != nil:
			t.Fatalf("a record (removed: %v) is missing: %v", want.Removed(), err)
		case got.Version != want.Version || string(got.Sealed) != string(want.Sealed):
			t.Fatal("a record is another one")
		case got.Expires.Sub(want.Expires).Abs() > slack:
			t.Fatalf("a record expires at %v, want %v", got.Expires, want.Expires)
		}
	}
}

// put saves records as a Cache would, but for what is in them.
func put(t *testing.T, p tokencache.Provider, count int) []tokencache.Name {
	t.Helper()
	all := make([]tokencache.Name, count)
	var group sync.WaitGroup
	for g := range 16 {
		group.Go(func() {
			for i := g; i < count; i += 16 {
				all[i] = tokencache.Name{Owner: newHash(), Partition: newHash()}
				if err := p.Save(t.Context(), all[i], sealed(i), tokencache.Condition{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	return all
}

// sealed is a record that looks encrypted.
func sealed(i int) tokencache.Record {
	return tokencache.Record{
		Sealed: fmt.Appendf([]byte("CC\x01\x01"), "number %d", i), Version: tokencache.NewVersion(), Expires: time.Now().Add(time.Hour),
	}
}

func newHash() string {
	v, w := tokencache.NewVersion(), tokencache.NewVersion()
	return (v.String() + w.String())[:43]
}

// signOut signs the session's user out everywhere. On a busy machine it may take
// another try.
func (a *authority) signOut(t *testing.T, c *tokencache.Cache, ticket tokencache.Ticket) {
	t.Helper()
	var err error
	for range 10 {
		err = c.Partition(ticket.Key()).SignOutEverywhere(t.Context(), a)
		if !errors.Is(err, tokencache.ErrUnavailable) {
			break
		}
	}
	if !errors.Is(err, tokencache.ErrNoTokens) { // of the try before
		check(t, err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
