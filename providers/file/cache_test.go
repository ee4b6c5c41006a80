package file_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func newCache(t testing.TB, p tokencache.Provider, o *tokencache.Options) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.New(p, tokencache.Namespace{Issuer: "https://issuer.example", ClientID: "client"}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Error("close:", err)
		}
	})
	return c
}

// signIn signs an account in, whose access token has ended, and returns its key.
func signIn(t testing.TB, c *tokencache.Cache) tokencache.Key {
	t.Helper()
	ticket, err := c.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
		return tokencache.Grant{
			AccessToken: "marker-access", RefreshToken: "marker-refresh", Scopes: []string{"read"}, Expires: time.Now().Add(-time.Hour),
			Account: tokencache.Account{ID: "1", Username: "ada"},
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ticket.Key()
}

// server rotates refresh tokens, and counts how many it was shown.
type server struct{ spent atomic.Int64 }

func (s *server) Refresh(context.Context, tokencache.Secret, tokencache.Request) (tokencache.Grant, error) {
	s.spent.Add(1)
	return tokencache.Grant{AccessToken: "marker-new", RefreshToken: "marker-next", Scopes: []string{"read"}, Expires: time.Now().Add(time.Hour)}, nil
}

func (*server) Revoke(context.Context, tokencache.Secret) error { return nil }

var read = tokencache.Request{Scopes: []string{"read"}}

// No refresh token is spent while what comes for it could not be stored.
func TestNotSpentWithoutRoom(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	p := open(t, &file.Options{Dir: dir})
	cache, s := newCache(t, p, nil), &server{}
	key := signIn(t, cache)
	// Where the temporary file should be, there is something that cannot be replaced.
	temp := filepath.Join(dir, "default.tmp")
	mustMkdir(t, filepath.Join(temp, "x"))
	_, err := cache.Partition(key).Token(t.Context(), read, s)
	if !errors.Is(err, tokencache.ErrUnavailable) || s.spent.Load() != 0 {
		t.Errorf("%v, and %d refresh tokens are spent", err, s.spent.Load())
	}
	mustRemove(t, temp)
	for range 50 { // for a moment the cache does not ask
		var tok tokencache.Token
		if tok, err = cache.Partition(key).Token(t.Context(), read, s); err == nil && tok.AccessToken == "marker-new" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("it does not go on:", err)
}

// Processes that need a token at the same moment spend the refresh token once.
func TestOneRefresh(t *testing.T) {
	t.Parallel()
	dir, s := directory(t), &server{}
	key := signIn(t, newCache(t, open(t, &file.Options{Dir: dir}), nil))
	const processes = 8
	ended := make(chan error, processes)
	for range processes {
		cache := newCache(t, open(t, &file.Options{Dir: dir}), nil)
		go func() {
			_, err := cache.Partition(key).Token(t.Context(), read, s)
			ended <- err
		}()
	}
	for range processes {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := s.spent.Load(); n != 1 {
		t.Errorf("%d refresh tokens were spent", n)
	}
}
