package sql_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// authority rotates refresh tokens, and takes each once.
type authority struct {
	mu        sync.Mutex
	serial    int
	live      map[tokencache.Secret]bool
	lifetime  time.Duration
	refreshes atomic.Int64
	reused    atomic.Int64
}

func (a *authority) issue() tokencache.Grant {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	if a.live == nil {
		a.live = map[tokencache.Secret]bool{}
	}
	g := tokencache.Grant{
		AccessToken:  tokencache.Secret(fmt.Sprintf("marker-access-%d", a.serial)),
		RefreshToken: tokencache.Secret(fmt.Sprintf("marker-refresh-%d", a.serial)),
		Scopes:       []string{"read"}, Expires: time.Now().Add(a.lifetime),
	}
	a.live[g.RefreshToken] = true
	return g
}

func (a *authority) signIn(context.Context) (tokencache.Grant, error) {
	g := a.issue()
	g.IDToken = "marker-id-token"
	g.Account = tokencache.Account{ID: "uid.utid", LocalID: "uid", Tenant: "utid", Username: "marker-user"}
	return g, nil
}

func (a *authority) Refresh(_ context.Context, rt tokencache.Secret, _ tokencache.Request) (tokencache.Grant, error) {
	a.refreshes.Add(1)
	a.mu.Lock()
	live := a.live[rt]
	delete(a.live, rt)
	a.mu.Unlock()
	if !live {
		a.reused.Add(1)
		return tokencache.Grant{}, tokencache.ErrInvalidGrant
	}
	return a.issue(), nil
}

func (a *authority) Revoke(context.Context, tokencache.Secret) error { return nil }

// nodes returns caches of machines that have one database, with keys.
func nodes(t *testing.T, s *testserver.Postgres, count int) []*tokencache.Cache {
	t.Helper()
	secret := func() []byte {
		b := make([]byte, tokencache.KeySize)
		_, _ = rand.Read(b)
		return b
	}
	ring, err := tokencache.NewKeyRing(secret())
	must(t, err)
	keys := &tokencache.Keys{Names: secret(), Seal: ring}
	caches := make([]*tokencache.Cache, count)
	for i := range caches {
		p := newProvider(t, sqlprovider.Postgres(pool(t, s.URL()), nil))
		caches[i], err = tokencache.New(p, tokencache.Namespace{Issuer: "https://login.example", ClientID: "app"},
			&tokencache.Options{Keys: keys, ProviderTimeout: 5 * time.Second, L1MaxAge: time.Hour})
		must(t, err)
		t.Cleanup(func() { _ = caches[i].Close(context.Background()) })
	}
	return caches
}

var read = tokencache.Request{Scopes: []string{"read"}}

// Two machines, many requests: a token that has expired is refreshed once. From
// then on it comes from memory, with the database gone. A sign-out on one machine
// empties the other's memory.
func TestCache(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), testserver.NewPostgres(t)
	caches := nodes(t, s, 2)
	a := &authority{lifetime: time.Hour}
	ticket, err := caches[0].SignIn(ctx, a.signIn)
	must(t, err)
	for round := range 3 {
		must(t, caches[round%2].Partition(ticket.Key()).Expire(ctx))
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				if _, err := caches[i%2].Partition(ticket.Key()).Token(ctx, read, a); err != nil {
					t.Error("Token:", err)
				}
			})
		}
		wg.Wait()
		if got := a.refreshes.Load(); got != int64(round+1) || a.reused.Load() != 0 {
			t.Errorf("round %d: %d refreshes, %d refresh tokens used twice", round, got, a.reused.Load())
		}
	}
	time.Sleep(time.Second) // what was told of the last save is over
	for _, c := range caches {
		_, err := c.Partition(ticket.Key()).Token(ctx, read, nil)
		must(t, err)
	}
	must(t, s.Pause())
	for i, c := range caches {
		if _, err := c.Partition(ticket.Key()).Token(ctx, read, nil); err != nil {
			t.Errorf("machine %d, from memory: %v", i, err)
		}
	}
	must(t, s.Resume())
	wantSealed(t, s)

	must(t, caches[0].Partition(ticket.Key()).SignOutEverywhere(ctx, nil))
	eventually(t, 3*time.Second, "the other machine has heard of it", func() bool {
		_, err := caches[1].Partition(ticket.Key()).Token(ctx, read, a)
		return errors.Is(err, tokencache.ErrNoTokens)
	})
	again, err := caches[1].SignIn(ctx, a.signIn)
	must(t, err)
	if _, err := caches[0].Partition(again.Key()).Token(ctx, read, a); err != nil {
		t.Error("signed in again:", err)
	}
}

// wantSealed wants nothing readable in the database.
func wantSealed(t *testing.T, s *testserver.Postgres) {
	t.Helper()
	var rows, readable int
	must(t, conn(t, s.URL()).QueryRow(t.Context(), `SELECT count(*),
		count(*) FILTER (WHERE position('marker'::bytea IN coalesce(sealed, '')) > 0 OR owner LIKE '%uid%' OR partition LIKE '%uid%')
		FROM coatcheck_records`).Scan(&rows, &readable))
	if rows == 0 || readable > 0 {
		t.Errorf("of %d records, %d can be read by anyone", rows, readable)
	}
}
