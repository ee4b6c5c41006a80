package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// activeUsers are the users who send requests, however many there are.
const activeUsers = 1000

var (
	namespace = tokencache.Namespace{Issuer: "https://login.example/tenant", ClientID: "client"}
	request   = tokencache.Request{Scopes: []string{"api://orders/Read"}}

	errMiss  = errors.New("a token or an entry is not where it was put")
	errOther = errors.New("tokens came from somewhere else than they should")
)

// Sizes of the tokens that Microsoft Entra ID issues, about: a partition is then
// 4.7 KB, as one of MSAL's is.
const (
	accessSize  = 1600
	refreshSize = 1200
	idSize      = 1100
)

// tokenSizes are those of the tokens that a user signs in with.
type tokenSizes struct{ access, refresh, id int }

var usual = tokenSizes{accessSize, refreshSize, idSize}

func accountID(i int) string { return fmt.Sprintf("%08d-user.tenant", i) }

// patience is what calls are given here: a busy machine that stops for a moment
// must not end the measurement. Timeouts cost the same however long they are.
const patience = 10 * time.Second

// newProvider returns a memory provider that evicts nothing.
func newProvider() (*memory.Provider, error) {
	return memory.New(&memory.Options{MaxBytes: 16 << 30})
}

// newCache returns a cache over the provider, without keys, whose copies do not
// expire while they are measured. Without copies, every token is loaded from the
// provider.
func newCache(p tokencache.Provider, copies bool) (*tokencache.Cache, error) {
	o := &tokencache.Options{AllowUnencryptedStorage: true, L1MaxAge: time.Hour, ProviderTimeout: patience}
	if !copies {
		o.L1MaxAge = time.Nanosecond
	}
	return tokencache.New(p, namespace, o)
}

// grant is what the user signs in with.
func grant(i int) tokencache.Grant { return usual.grant(i) }

func (s tokenSizes) grant(i int) tokencache.Grant {
	text := func(size int) tokencache.Secret { return tokencache.Secret(strings.Repeat("t", size)) }
	return tokencache.Grant{
		AccessToken:  text(s.access),
		RefreshToken: text(s.refresh),
		IDToken:      text(s.id),
		Scopes:       []string{"openid", "profile", "api://orders/Read", "api://orders/Write"},
		Expires:      time.Now().Add(24 * time.Hour),
		Account:      tokencache.Account{ID: accountID(i), Tenant: "tenant", Username: "user@example.test"},
	}
}

// signIn signs in the active users and returns their keys.
func signIn(c *tokencache.Cache) ([]tokencache.Key, error) { return usual.signIn(c) }

func (s tokenSizes) signIn(c *tokencache.Cache) ([]tokencache.Key, error) {
	for i := range activeUsers {
		if _, err := c.SignIn(context.Background(), func(context.Context) (tokencache.Grant, error) { return s.grant(i), nil }); err != nil {
			return nil, err
		}
	}
	return activeKeys(), nil
}

func activeKeys() []tokencache.Key {
	keys := make([]tokencache.Key, activeUsers)
	for i := range keys {
		keys[i] = tokencache.AccountKey(accountID(i))
	}
	return keys
}

// tokens asks for the users' tokens, which must come from the source, but for
// one in a thousand: otter may evict what it has just admitted, and two who ask
// at the same moment may share even what is not to be kept.
func tokens(c *tokencache.Cache, keys []tokencache.Key, from tokencache.Source) batch {
	return func(first, n int) error {
		ctx, others := context.Background(), 0
		for i := range n {
			tok, err := c.Partition(keys[(first+i)%len(keys)]).Token(ctx, request, nil)
			if err != nil {
				return err
			}
			if tok.Source != from {
				others++
			}
		}
		if others > 1+n/1000 {
			return errOther
		}
		return nil
	}
}

// fillL1 asks for the users' tokens until all of them are in L1 and stay there:
// it admits those who come often, and evicts others a moment later.
func fillL1(c *tokencache.Cache, keys []tokencache.Key) error {
	all := tokens(c, keys, tokencache.SourceL1)
	for range 50 {
		if err := anyOf(c, keys, 20*len(keys)); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
		if err := all(0, 20*len(keys)); !errors.Is(err, errOther) {
			return err
		}
	}
	return errOther
}

// anyOf asks for n tokens, wherever they come from.
func anyOf(c *tokencache.Cache, keys []tokencache.Key, n int) error {
	for i := range n {
		if _, err := c.Partition(keys[i%len(keys)]).Token(context.Background(), request, nil); err != nil {
			return err
		}
	}
	return nil
}
