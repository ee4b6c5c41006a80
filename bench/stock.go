package main

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// stock fills the provider with so many users, and returns the keys of the
// active ones. Only the first signs in, with short tokens: a million sign-ins
// take minutes. The others get its record, with their own account in it, when
// they are first asked for; so it is the cache that names them, and that finds
// their tokens in order.
func stock(p tokencache.Provider, users int) ([]tokencache.Key, error) {
	s := &stocking{Provider: p}
	c, err := newCache(s, false)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close(context.Background()) }()
	if _, err := c.SignIn(context.Background(), func(context.Context) (tokencache.Grant, error) {
		g := grant(0)
		g.AccessToken, g.RefreshToken, g.IDToken = "access token", "refresh token", "ID token"
		return g, nil
	}); err != nil {
		return nil, err
	}
	var next atomic.Int64 // the first is there
	var wg sync.WaitGroup
	errs := make([]error, goroutines)
	for g := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)); i < users && errs[g] == nil; i = int(next.Add(1)) {
				id := accountID(i)
				ctx := context.WithValue(context.Background(), stocked{}, id)
				_, errs[g] = c.Partition(tokencache.AccountKey(id)).Token(ctx, request, nil)
			}
		})
	}
	wg.Wait()
	return activeKeys(), errors.Join(errs...)
}

// stocked is the context key of the account whose partition is to be made.
type stocked struct{}

// stocking makes the partition that is loaded. It can, because a provider whose
// records do not leave the process is given plaintext, and accounts are all of
// one length.
type stocking struct {
	tokencache.Provider
	first []byte
}

// Save keeps a copy of the first user's record.
func (s *stocking) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	s.first = bytes.Clone(r.Sealed)
	return s.Provider.Save(ctx, n, r, c)
}

// Load makes what the context asks for and is not there.
func (s *stocking) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	r, err := s.Provider.Load(ctx, n)
	id, ok := ctx.Value(stocked{}).(string)
	if !ok || !errors.Is(err, tokencache.ErrNotFound) {
		return r, err
	}
	r = tokencache.Record{
		Sealed:  bytes.ReplaceAll(s.first, []byte(accountID(0)), []byte(id)),
		Version: tokencache.NewVersion(),
		Expires: time.Now().Add(24 * time.Hour),
	}
	return r, s.Provider.Save(ctx, n, r, tokencache.Condition{})
}

// Capabilities leaves out the watcher: nobody needs to hear of a million saves.
func (s *stocking) Capabilities() tokencache.Capabilities {
	caps := s.Provider.Capabilities()
	caps.Watcher = nil
	return caps
}
