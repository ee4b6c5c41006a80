package tokencache

import (
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
// processes the last one wins.
type hookStore struct {
	hooks *hooks
	locks keyedLocks // of a partition, while its hook runs
	known *otter.Cache[Name, Version]
	gone  *otter.Cache[Name, Version] // tombstones
}

// hookStoreSize bounds what is remembered, in partitions.
const hookStoreSize = 100_000

func newHookStore(h *hooks) *hookStore {
	remember := func(life time.Duration) *otter.Cache[Name, Version] {
		return otter.Must(&otter.Options[Name, Version]{
			MaximumSize:      hookStoreSize,
			ExpiryCalculator: otter.ExpiryWriting[Name, Version](life),
		})
	}
	return &hookStore{hooks: h, known: remember(tombstoneLife), gone: remember(tombstoneLife)}
}

func (s *hookStore) close() {
	s.known.StopAllGoroutines()
	s.gone.StopAllGoroutines()
}

// Capabilities: the bytes are the application's to protect.
func (s *hookStore) Capabilities() Capabilities { return Capabilities{InProcess: true} }

// Load has the application read the partition.
func (s *hookStore) Load(ctx context.Context, name Name) (Record, error) {
	unlock, err := s.locks.lock(ctx, name.Partition)
	if err != nil {
		return Record{}, err
	}
	defer unlock()
	return s.load(ctx, name)
}

func (s *hookStore) load(ctx context.Context, name Name) (Record, error) {
	a := accessOf(ctx)
	a.Tokens = &Tokens{}
	if err := s.hooks.before(ctx, a); err != nil {
		return Record{}, err
	}
	doc, err := a.contents()
	if err != nil {
		return Record{}, err
	}
	if doc.empty() {
		s.known.Invalidate(name)
		if tomb, ok := s.gone.GetIfPresent(name); ok {
			return Record{Version: tomb}, nil
		}
		return Record{}, ErrNotFound
	}
	r, err := hookRecord(name, doc)
	if err == nil {
		s.known.Set(name, r.Version)
		s.gone.Invalidate(name)
	}
	return r, err
}

// contents is what the application has read.
func (a *Access) contents() (*document, error) {
	if a.Tokens == nil {
		return &document{}, nil
	}
	return a.Tokens.view()
}

// hookRecord makes a record of a document, as a sealer without keys would.
func hookRecord(name Name, doc *document) (Record, error) {
	r := Record{Version: hookVersion(doc)}
	m, rest := doc.splitMeta()
	plain, err := encodePlain(m, rest, time.Now())
	if err != nil {
		return Record{}, err
	}
	unsealed := sealer{}
	r.Sealed, err = unsealed.seal(name, r.Version, plain)
	return r, err
}

func hookVersion(doc *document) (v Version) {
	text, _ := doc.encode()
	sum := sha256.Sum256(text)
	copy(v[:], sum[:])
	return v
}

// Save has the application write the partition, or delete it.
func (s *hookStore) Save(ctx context.Context, name Name, r Record, cond Condition) error {
	unlock, err := s.locks.lock(ctx, name.Partition)
	if err != nil {
		return err
	}
	defer unlock()
	if !s.holds(name, cond) {
		return ErrConflict
	}
	a := accessOf(ctx)
	a.Tokens, a.HasTokens = &Tokens{}, false
	version := r.Version
	if !r.Removed() {
		if version, err = a.showRecord(r); err != nil {
			return err
		}
	}
	s.known.Invalidate(name) // until it is written, nobody knows
	a.written = true
	a.Duration = time.Since(a.started)
	if err := s.hooks.after(ctx, a); err != nil {
		return err
	}
	if r.Removed() {
		s.gone.Set(name, version)
	} else {
		s.gone.Invalidate(name)
	}
	s.known.Set(name, version)
	return nil
}

// holds tells whether the condition does, as far as it is known here.
func (s *hookStore) holds(name Name, cond Condition) bool {
	known, ok := s.known.GetIfPresent(name)
	if !ok || cond.Unconditional() {
		return true
	}
	want, some := cond.Version()
	return some && want == known
}

// showRecord shows what is to be written, and returns its version.
func (a *Access) showRecord(r Record) (Version, error) {
	snap, err := parsePlain(r.Sealed[envelopeHeader:])
	if err != nil {
		return Version{}, err
	}
	doc, err := snap.document()
	if err != nil {
		return Version{}, err
	}
	doc = doc.withMeta(snap.meta)
	a.Tokens = &Tokens{doc: doc}
	a.HasTokens = snap.usable(a.ClientID, a.Account, time.Now())
	return hookVersion(doc), nil
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
