package session

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// records keeps tokens in the store of a session manager. Its promises are those of
// one process; see the package comment.
type records struct {
	manager *scs.SessionManager
	key     string // of the only value
}

var (
	_ tokencache.Provider = (*records)(nil)
	_ tokencache.Toucher  = (*records)(nil)
	_ tokencache.Pinger   = (*records)(nil)
)

// Capabilities is that of [tokencache.Provider].
func (s *records) Capabilities() tokencache.Capabilities {
	return tokencache.Capabilities{Toucher: s, Pinger: s}
}

// Load is that of [tokencache.Provider]. It waits for no lock.
func (s *records) Load(ctx context.Context, name tokencache.Name) (tokencache.Record, error) {
	return s.find(ctx, tokenOf(name))
}

// Save is that of [tokencache.Provider].
func (s *records) Save(ctx context.Context, name tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	if len(r.Sealed) > tokencache.MaxSealedSize {
		return tokencache.ErrTooLarge
	}
	token := tokenOf(name)
	unlock, err := lock(ctx, token)
	if err != nil {
		return err
	}
	defer unlock()
	if !c.Unconditional() {
		stored, err := s.find(ctx, token)
		if err != nil && !errors.Is(err, tokencache.ErrNotFound) && !errors.Is(err, tokencache.ErrTooLarge) {
			return err
		}
		there := !errors.Is(err, tokencache.ErrNotFound)
		if v, ok := c.Version(); there != ok || ok && (v != stored.Version || v == tokencache.Version{}) {
			return tokencache.ErrConflict
		}
	}
	return s.put(ctx, token, r)
}

// Touch is that of [tokencache.Toucher]. A store of scs has no other way than to
// write the record again.
func (s *records) Touch(ctx context.Context, name tokencache.Name, v tokencache.Version, expires time.Time) error {
	token := tokenOf(name)
	unlock, err := lock(ctx, token)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := s.find(ctx, token)
	switch {
	case errors.Is(err, tokencache.ErrTooLarge), err == nil && r.Version != v:
		return tokencache.ErrConflict
	case err != nil:
		return err
	}
	r.Expires = expires
	return s.put(ctx, token, r)
}

// Ping is that of [tokencache.Pinger]. It asks for a record that nothing is ever
// stored under.
func (s *records) Ping(ctx context.Context) error {
	_, err := s.find(ctx, tokenOf(tokencache.Name{}))
	if errors.Is(err, tokencache.ErrNotFound) {
		return nil
	}
	return err
}

// find returns the record under the token of the store. The error is ErrNotFound,
// ErrTooLarge, or that of a store that does not answer.
func (s *records) find(ctx context.Context, token string) (tokencache.Record, error) {
	if err := ctx.Err(); err != nil {
		return tokencache.Record{}, err
	}
	stored, found, err := s.ask(ctx, token)
	switch {
	case err != nil:
		return tokencache.Record{}, mapped(ctx, "the tokens could not be read", err)
	case !found:
		return tokencache.Record{}, tokencache.ErrNotFound
	case len(stored) > maxStored:
		return tokencache.Record{}, tokencache.ErrTooLarge
	}
	_, values, err := s.manager.Codec.Decode(stored)
	if err != nil {
		values = nil
	}
	r := decode(values, s.key)
	if !r.Expires.IsZero() && !time.Now().Before(r.Expires) {
		return tokencache.Record{}, tokencache.ErrNotFound // the store's clock is behind, or it has none
	}
	return r, nil
}

// put stores the record. What has expired already is removed: some stores would keep
// it for ever.
func (s *records) put(ctx context.Context, token string, r tokencache.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	expires := forStore(r.Expires)
	if time.Now().Before(expires) {
		b, err := s.manager.Codec.Encode(expires.UTC(), encode(r, s.key))
		if err != nil {
			return mapped(ctx, "the session manager's Codec refuses a text", err)
		}
		if err := s.commit(ctx, token, b, expires); err != nil {
			return mapped(ctx, "the tokens could not be stored", err)
		}
		if time.Now().Before(expires) {
			return nil
		}
	}
	return mapped(ctx, "the tokens could not be stored", s.remove(ctx, token))
}

// The methods of a store that take a context, each of which scs prefers where it is.
type (
	ctxFinder interface {
		FindCtx(ctx context.Context, token string) ([]byte, bool, error)
	}
	ctxCommitter interface {
		CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error
	}
	ctxDeleter interface {
		DeleteCtx(ctx context.Context, token string) error
	}
)

func (s *records) ask(ctx context.Context, token string) ([]byte, bool, error) {
	if c, ok := s.manager.Store.(ctxFinder); ok {
		return c.FindCtx(ctx, token)
	}
	return s.manager.Store.Find(token)
}

func (s *records) commit(ctx context.Context, token string, b []byte, expiry time.Time) error {
	if c, ok := s.manager.Store.(ctxCommitter); ok {
		return c.CommitCtx(ctx, token, b, expiry)
	}
	return s.manager.Store.Commit(token, b, expiry)
}

func (s *records) remove(ctx context.Context, token string) error {
	if c, ok := s.manager.Store.(ctxDeleter); ok {
		return c.DeleteCtx(ctx, token)
	}
	return s.manager.Store.Delete(token)
}

// locks are those of all records in this process, whoever stores them. A lock is
// held for the two calls of a save, by few at once.
var (
	locks     = makeLocks()
	locksSeed = maphash.MakeSeed()
)

func makeLocks() (all [512]chan struct{}) {
	for i := range all {
		all[i] = make(chan struct{}, 1)
	}
	return all
}

// lock takes the lock of the token, or returns ctx's error.
func lock(ctx context.Context, token string) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := locks[maphash.String(locksSeed, token)%uint64(len(locks))]
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
