package sql_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// rotating is an authorization server: it takes each refresh token once.
type rotating struct{ count atomic.Int64 }

func (s *rotating) Refresh(_ context.Context, refresh tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	n := s.count.Add(1)
	if string(refresh) != fmt.Sprintf("marker-refresh-%d", n-1) {
		return tokencache.Grant{}, tokencache.ErrInvalidGrant
	}
	return s.grant(n, req.Scopes...), nil
}

func (s *rotating) Revoke(context.Context, tokencache.Secret) error { return nil }

func (s *rotating) grant(n int64, scopes ...string) tokencache.Grant {
	return tokencache.Grant{
		AccessToken:  tokencache.Secret(fmt.Sprintf("marker-access-%d", n)),
		RefreshToken: tokencache.Secret(fmt.Sprintf("marker-refresh-%d", n)),
		Scopes:       scopes, Expires: time.Now().Add(time.Hour),
		Account: tokencache.Account{ID: "marker-ada", Username: "marker-ada@example.com"},
	}
}

// cacheOn is a machine: a cache on a provider of its own on the file.
func cacheOn(t *testing.T, file string, keys *tokencache.Keys) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.New(machine(t, file), tokencache.Namespace{Issuer: "https://login.example", ClientID: "marker-app"},
		&tokencache.Options{Keys: keys, ProviderTimeout: 5 * time.Second})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close(context.Background())) })
	return c
}

// Two machines share a user, sealed and with copies in memory: a sign-in, refreshes
// for other scopes at once, and a sign-out, which reaches the copy of the other one
// within the interval of its watch. What is in the files tells nobody anything.
func TestSQLiteThroughCache(t *testing.T) {
	t.Parallel()
	random := func() []byte {
		b := make([]byte, tokencache.KeySize)
		_, _ = rand.Read(b) // never fails
		return b
	}
	ring, err := tokencache.NewKeyRing(random())
	must(t, err)
	keys := &tokencache.Keys{Names: random(), Seal: ring}
	file, server := newFile(t), &rotating{}
	a, b := cacheOn(t, file, keys), cacheOn(t, file, keys)
	read := tokencache.Request{Scopes: []string{"marker-read"}}
	for round := range 5 {
		ctx := t.Context()
		ticket, err := a.SignIn(ctx, func(context.Context) (tokencache.Grant, error) {
			return server.grant(server.count.Load(), "marker-read"), nil
		})
		must(t, err)
		other := b.Partition(ticket.Key())
		results := make(chan error, 8)
		for i := range cap(results) {
			machine := []*tokencache.Cache{a, b}[i%2]
			go func() {
				_, err := machine.Partition(ticket.Key()).Token(ctx,
					tokencache.Request{Scopes: []string{fmt.Sprintf("marker-scope-%d", i/2)}}, server)
				results <- err
			}()
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Fatalf("round %d: a refresh: %v", round, err)
			}
		}
		eventually(t, 5*time.Second, "the other machine has a copy", func() bool {
			tok, err := other.Token(ctx, read, server)
			return err == nil && tok.Source == tokencache.SourceL1
		})
		if round == 0 {
			tellsNothing(t, filepath.Dir(file))
		}
		must(t, a.Partition(ticket.Key()).SignOut(ctx, server))
		out := time.Now()
		for errors.Is(err, nil) {
			_, err = other.Token(ctx, read, server)
			if took := time.Since(out); err == nil && took > 2*time.Second {
				t.Fatalf("a token %v after the sign-out", took)
			}
			time.Sleep(time.Millisecond)
		}
		if !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("after the sign-out: %v", err)
		}
		t.Logf("the sign-out was heard of after %v", time.Since(out).Round(time.Millisecond))
	}
	tellsNothing(t, filepath.Dir(file))
}

// tellsNothing reads the database and all that is beside it.
func tellsNothing(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	size := 0
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		size += len(b)
		for _, word := range []string{"marker", "ada", "example.com", "login.example"} {
			if bytes.Contains(b, []byte(word)) {
				t.Errorf("%s has %q in it", filepath.Ext(e.Name()), word[:3])
			}
		}
	}
	if len(entries) < 2 || size < 8<<10 {
		t.Errorf("%d files of %d bytes were looked at", len(entries), size)
	}
}
