package fleet

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A call that is sent again, because the reply was lost, undoes nothing that
// others have done in between.
func TestRepeatedCallUndoesNothing(t *testing.T) {
	everyBackend(t, true, func(t *testing.T, s service) {
		proxy := testserver.NewProxy(t, s.at().addr(t))
		slow, fast := providerOver(t, s.at().through(proxy.Addr())), providerOver(t, s.at())
		mark := func(p tokencache.Provider, v tokencache.Version) step {
			return func(ctx context.Context, n tokencache.Name) error {
				return p.Capabilities().Owners.SetMark(ctx, n.Owner, v, time.Now().Add(time.Hour))
			}
		}
		t.Run("mark", func(t *testing.T) {
			repeated{
				proxy: proxy, reader: fast,
				first: mark(slow, tokencache.Version{1}), second: mark(fast, tokencache.Version{2}),
				seen: func(r tokencache.Record) tokencache.Version { return r.Mark },
			}.check(t)
		})
		save := func(p tokencache.Provider, v tokencache.Version, c tokencache.Condition) step {
			return func(ctx context.Context, n tokencache.Name) error {
				return p.Save(ctx, n, tokencache.Record{Sealed: []byte("sealed"), Version: v}, c)
			}
		}
		t.Run("save without a condition", func(t *testing.T) {
			repeated{
				proxy: proxy, reader: fast,
				first:  save(slow, tokencache.Version{1}, tokencache.Always()),
				second: save(fast, tokencache.Version{2}, tokencache.IfVersion(tokencache.Version{1})),
				seen:   func(r tokencache.Record) tokencache.Version { return r.Version },
			}.check(t)
		})
	})
}

type step func(context.Context, tokencache.Name) error

// repeated are two steps, which store {1} and {2}. The reply to the first is lost.
type repeated struct {
	proxy         *testserver.Proxy // of the first
	first, second step
	reader        tokencache.Provider
	seen          func(tokencache.Record) tokencache.Version
}

func (c repeated) check(t *testing.T) {
	t.Helper()
	check(t, c.first(t.Context(), newName())) // so that both sides know the statement
	n := newName()
	stored := func() tokencache.Version {
		r, err := c.reader.Load(t.Context(), n)
		if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
			t.Fatal(err)
		}
		return c.seen(r)
	}
	c.proxy.Set(testserver.Fault{DropReplies: true, Times: 1})
	first := make(chan error, 1)
	go func() { first <- c.first(context.WithoutCancel(t.Context()), n) }()
	eventually(t, func() error {
		if stored() != (tokencache.Version{1}) {
			return errors.New("the first call does not arrive")
		}
		return nil
	})
	check(t, c.second(t.Context(), n))
	err := <-first // of whatever kind: the caller finds out
	if got := stored(); got != (tokencache.Version{2}) {
		t.Errorf("what came second was undone by the first call, which returned %v", err)
	}
}

// providerOver is a provider whose driver takes its time before it repeats a call.
func providerOver(t *testing.T, b backend) tokencache.Provider {
	t.Helper()
	p, release, err := (&setup{Backend: b, RetryPause: 300 * time.Millisecond}).open()
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := background()
		defer cancel()
		if err := release(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}
