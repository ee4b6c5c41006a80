package tokencache_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// shelf is where an application without a provider keeps its tokens, by
// SuggestedKey, and writes down what its hooks are told.
type shelf struct {
	recorder
	docs map[string]string // guarded by the recorder's mu
	busy map[string]int    // readers of a partition; -1 for a writer

	// Each, unless nil, runs in the hook's place and may call it. They are called
	// without the lock.
	before, after func(context.Context, *tokencache.Access, tokencache.Hook) error
	overlaps      int          // of a write with anything else of its partition
	readers       int          // the most at once in one partition
	untold        atomic.Int64 // BeforeAccess was told what cannot be known yet
}

func newShelf() *shelf {
	return &shelf{docs: map[string]string{}, busy: map[string]int{}, recorder: recorder{fail: map[string]error{}}}
}

func (s *shelf) options() *tokencache.Options {
	record := s.recorder.options()
	return &tokencache.Options{
		BeforeAccess: func(ctx context.Context, a *tokencache.Access) error {
			leave := s.enter(a.SuggestedKey, false)
			defer leave()
			if a.HasStateChanged || a.HasTokens || !a.SuggestedExpiry.IsZero() || a.Err != nil || a.Tokens == nil || len(a.Tokens.Entries()) != 0 {
				s.untold.Add(1)
			}
			if err := record.BeforeAccess(ctx, a); err != nil {
				return err
			}
			return instead(s, &s.before, s.read)(ctx, a)
		},
		BeforeWrite: record.BeforeWrite,
		AfterAccess: func(ctx context.Context, a *tokencache.Access) error {
			if a.HasStateChanged {
				leave := s.enter(a.SuggestedKey, true)
				defer leave()
			}
			if err := record.AfterAccess(ctx, a); err != nil {
				return err
			}
			return instead(s, &s.after, s.write)(ctx, a)
		},
	}
}

func instead(s *shelf, f *func(context.Context, *tokencache.Access, tokencache.Hook) error, hook tokencache.Hook) tokencache.Hook {
	s.mu.Lock()
	defer s.mu.Unlock()
	if run := *f; run != nil {
		return func(ctx context.Context, a *tokencache.Access) error { return run(ctx, a, hook) }
	}
	return hook
}

// set changes what runs in the hooks' place.
func (s *shelf) set(before, after func(context.Context, *tokencache.Access, tokencache.Hook) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

func (s *shelf) read(_ context.Context, a *tokencache.Access) error {
	s.mu.Lock()
	doc := s.docs[a.SuggestedKey]
	s.mu.Unlock()
	return a.Tokens.Deserialize(strings.NewReader(doc))
}

func (s *shelf) write(_ context.Context, a *tokencache.Access) error {
	if !a.HasStateChanged {
		return nil
	}
	var doc strings.Builder
	if a.HasTokens {
		if err := a.Tokens.Serialize(&doc); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.HasTokens {
		delete(s.docs, a.SuggestedKey)
		return nil
	}
	s.docs[a.SuggestedKey] = doc.String()
	return nil
}

// enter notes who is in the partition at once.
func (s *shelf) enter(key string, writes bool) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if writes && s.busy[key] != 0 || s.busy[key] < 0 {
		s.overlaps++
		return func() {}
	}
	step := 1
	if writes {
		step = -1
	}
	s.busy[key] += step
	s.readers = max(s.readers, s.busy[key])
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy[key] -= step
	}
}

// all returns what is stored.
func (s *shelf) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var docs []string
	for _, doc := range s.docs {
		docs = append(docs, doc)
	}
	return docs
}

// only returns the one document, "" if there is none.
func (s *shelf) only(t testing.TB) string {
	t.Helper()
	switch docs := s.all(); len(docs) {
	case 0:
		return ""
	case 1:
		return docs[0]
	default:
		t.Fatalf("there are %d documents", len(docs))
	}
	return ""
}

// put replaces the one document, whatever its name.
func (s *shelf) put(doc string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.docs {
		s.docs[key] = doc
	}
}

// forget forgets what the hooks were told.
func (s *shelf) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines, s.seen = nil, nil
}

// told returns the accesses that the hooks were told of in the phase.
func (s *shelf) told(phase string) []tokencache.Access {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []tokencache.Access
	for i, line := range s.lines {
		if name, _, _ := strings.Cut(line, " "); name == phase {
			list = append(list, s.seen[i])
		}
	}
	return list
}

func (s *shelf) veto(phase string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[phase] = err
}

func (s *shelf) history() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

func newHookCache(t testing.TB, s *shelf) *tokencache.Cache {
	t.Helper()
	t.Cleanup(func() {
		if s.untold.Load() != 0 {
			t.Error("BeforeAccess was told what cannot be known yet")
		}
	})
	return newCache(t, nil, s.options())
}
