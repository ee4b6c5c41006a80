package main

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// stock fills the provider with so many users, and returns the keys of the
// active ones. Only the first signs in, with short tokens: a million sign-ins
// take minutes. The others get its record, with their own account in it, when
// they are first asked for; so it is the cache that names them, and that finds
// their tokens in order. So many are made at once.
func stock(p tokencache.Provider, users, atOnce int) ([]tokencache.Key, error) {
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
	errs := make([]error, atOnce)
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

// stocking makes the partition that is loaded. It can, because what it is given is
// plaintext, and accounts are all of one length.
type stocking struct {
	tokencache.Provider
	first tokencache.Record
}

// Save keeps a copy of the first user's record.
func (s *stocking) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	s.first = r
	s.first.Sealed = bytes.Clone(r.Sealed)
	return s.Provider.Save(ctx, n, r, c)
}

// Load makes what the context asks for. Nobody asks twice.
func (s *stocking) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	id, ok := ctx.Value(stocked{}).(string)
	if !ok {
		return s.Provider.Load(ctx, n)
	}
	r := tokencache.Record{
		Sealed:  bytes.ReplaceAll(s.first.Sealed, []byte(accountID(0)), []byte(id)),
		Version: tokencache.NewVersion(),
		Expires: s.first.Expires, // no use of it is to be noticed
	}
	return r, s.Provider.Save(ctx, n, r, tokencache.Condition{})
}

// Capabilities leaves out the watcher, as nobody needs to hear of a million saves,
// and has the cache call without a goroutine for each call.
func (s *stocking) Capabilities() tokencache.Capabilities {
	caps := s.Provider.Capabilities()
	caps.Watcher, caps.InProcess = nil, true
	return caps
}
