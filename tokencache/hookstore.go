package tokencache

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/maypok86/otter/v2"
)

// hookStore is the storage provider of a cache without one: its hooks are the
// persistence. Load has BeforeAccess read, Save has AfterAccess write.
//
// A document of the application's has no version, so the version of what is
// read is a hash of it. Conditions hold among the users of this value: what was
// last read or written is remembered, tombstones too. Of writers in other
// processes the last one wins, unless the application finds the conflict itself.
type hookStore struct {
	hooks   *hooks
	timeout time.Duration               // of a hook; waiting for its turn is not its time
	locks   keyedLocks                  // of a partition, while its hook runs
	known   *otter.Cache[Name, Version] // the zero version: nothing is stored
	gone    *otter.Cache[Name, Version] // tombstones
}

// hookStoreSize bounds what is remembered, in partitions.
const hookStoreSize = 100_000

func newHookStore(h *hooks, timeout time.Duration) *hookStore {
	remember := func() *otter.Cache[Name, Version] {
		return otter.Must(&otter.Options[Name, Version]{
			MaximumSize:      hookStoreSize,
			ExpiryCalculator: otter.ExpiryWriting[Name, Version](tombstoneLife),
		})
	}
	return &hookStore{hooks: h, timeout: timeout, known: remember(), gone: remember()}
}

func (s *hookStore) close() {
	s.known.StopAllGoroutines()
	s.gone.StopAllGoroutines()
}

// Capabilities: the bytes are the application's to protect.
func (s *hookStore) Capabilities() Capabilities { return Capabilities{InProcess: true} }

// Load has the application read the partition. Reads do not wait for each other.
func (s *hookStore) Load(ctx context.Context, name Name) (Record, error) {
	unlock, err := s.locks.share(ctx, name.Partition)
	if err != nil {
		return Record{}, err
	}
	defer unlock()
	return s.load(ctx, name)
}

func (s *hookStore) load(ctx context.Context, name Name) (Record, error) {
	a := accessOf(ctx)
	a.noChange()
	a.Tokens, a.HasTokens, a.saved, a.written = &Tokens{}, false, false, false
	err := s.run(ctx, s.hooks.before, a)
	var doc *document
	if err == nil {
		doc, err = a.contents()
	}
	switch {
	case errors.Is(err, ErrUnavailable):
		return Record{}, hookFailed("BeforeAccess", err)
	case errors.Is(err, ErrTooLarge):
		s.known.Invalidate(name)
		return Record{}, ErrTooLarge
	case errors.Is(err, ErrUnreadable):
		s.known.Invalidate(name)
		return Record{Sealed: unsealed(nil)}, nil // no partition
	case err != nil:
		return Record{}, hookFailed("BeforeAccess", err)
	case doc.empty():
		tomb, _ := s.gone.GetIfPresent(name)
		s.known.Set(name, tomb)
		if tomb != (Version{}) {
			return Record{Version: tomb}, nil
		}
		return Record{}, ErrNotFound
	}
	r, err := hookRecord(doc)
	if err == nil {
		s.known.Set(name, r.Version)
		s.gone.Invalidate(name)
	}
	return r, err
}

// run calls the hook with a deadline of its own.
func (s *hookStore) run(ctx context.Context, h Hook, a *Access) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return h(ctx, a)
}

// contents is what the application has read.
func (a *Access) contents() (*document, error) {
	if a.Tokens == nil {
		return &document{}, nil
	}
	return a.Tokens.view()
}

// hookRecord makes a record of a document, as a sealer without keys would.
func hookRecord(doc *document) (Record, error) {
	m, rest := doc.splitMeta()
	plain, err := encodePlain(m, rest, time.Now())
	return Record{Version: hookVersion(doc), Sealed: unsealed(plain)}, err
}

func unsealed(plain []byte) []byte {
	sealed, _ := (&sealer{}).seal(Name{}, Version{}, plain) // nothing is sealed: cannot fail
	return sealed
}

func hookVersion(doc *document) (v Version) {
	text, _ := doc.encode()
	sum := sha256.Sum256(text)
	copy(v[:], sum[:])
	return v
}

// Save has the application write the partition, or delete it. Nothing else of the
// partition runs meanwhile.
func (s *hookStore) Save(ctx context.Context, name Name, r Record, cond Condition) error {
	unlock, err := s.locks.lock(ctx, name.Partition)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.check(ctx, name, cond); err != nil {
		return err
	}
	a := accessOf(ctx)
	version, err := s.show(a, r)
	if err != nil {
		return err
	}
	a.written, a.Duration = true, time.Since(a.started)
	switch err := s.run(ctx, s.hooks.after, a); {
	case errors.Is(err, ErrConflict):
		return ErrConflict
	case errors.Is(err, ErrTooLarge):
		return ErrTooLarge
	case err != nil:
		return hookFailed("AfterAccess", err)
	}
	s.known.Set(name, version)
	if r.Removed() {
		s.gone.Set(name, version)
	} else {
		s.gone.Invalidate(name)
	}
	return nil
}

// check returns ErrConflict if the condition does not hold, as far as it is known
// here. Whoever could not read, or has read long ago, must not overwrite what is
// there: it is read now.
func (s *hookStore) check(ctx context.Context, name Name, cond Condition) error {
	if cond.Unconditional() {
		return nil
	}
	want, some := cond.Version()
	known, ok := s.known.GetIfPresent(name)
	if !ok {
		known, ok = s.gone.GetIfPresent(name)
	}
	if !ok && !some {
		if _, err := s.load(ctx, name); !errors.Is(err, ErrNotFound) {
			return cmp.Or(err, ErrConflict)
		}
	}
	if ok && want != known {
		return ErrConflict
	}
	return nil
}

// show shows what is to be written, and returns its version.
func (s *hookStore) show(a *Access, r Record) (Version, error) {
	if r.Removed() {
		a.Tokens, a.HasTokens = &Tokens{}, false
		a.change(time.Time{})
		return r.Version, nil
	}
	snap, err := parsePlain(r.Sealed[envelopeHeader:])
	if err != nil {
		return Version{}, err
	}
	if s.hooks.show(a, snap); a.Tokens == nil {
		return Version{}, ErrUnreadable
	}
	a.change(r.Expires)
	return hookVersion(a.Tokens.doc), nil
}

type accessKey struct{}

// withAccess carries the access to the hookStore.
func withAccess(ctx context.Context, a *Access) context.Context {
	return context.WithValue(ctx, accessKey{}, a)
}

// accessOf returns the access that the call is part of.
func accessOf(ctx context.Context) *Access {
	a, ok := ctx.Value(accessKey{}).(*Access)
	if !ok {
		panic("tokencache: a call outside of an access") // a bug of this package
	}
	return a
}

// errHooksPersist says what a cache without a provider needs.
var errHooksPersist = errors.New("tokencache: the provider is nil: pass one, or set BeforeAccess and AfterAccess, " +
	"which then read and write the partitions")

// errKeysWithHooks says that keys would protect nothing.
var errKeysWithHooks = errors.New("tokencache: Options.Keys cannot seal what hooks write: " +
	"encrypt what Tokens.Serialize gives, and leave Keys empty")
