package tokencache_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Over a store on this machine, whoever joins a load that runs already is not answered
// with what was stored before they asked: nobody tells of what another process does.
func TestLocalLoadIsNotShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newProvider(t)
		slow := &faulty{Provider: shared, hide: func(caps *tokencache.Capabilities) {
			caps.InProcess, caps.Watcher, caps.Local = false, nil, true
		}}
		options := &tokencache.Options{Keys: newKeys(t)}
		here, there := newCache(t, slow, options), newCache(t, shared, options)
		key := mustSignIn(t, there, newAuthority(), "read").Key()
		var first atomic.Bool
		slow.set(func(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
			r, err := shared.Load(ctx, n)
			if first.CompareAndSwap(false, true) {
				time.Sleep(time.Second)
			}
			return r, err
		}, nil)
		go func() { _ = here.Partition(key).Check(t.Context()) }()
		synctest.Wait()
		if err := there.Partition(key).SignOut(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		wantError(t, here.Partition(key).Check(t.Context()), tokencache.ErrRemoved)
	})
}

// A store on this machine is asked each time, so that what another process has done is
// seen at once, and is given time.
func TestLocalProvider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		provider := &faulty{Provider: newProvider(t), hide: func(c *tokencache.Capabilities) {
			c.InProcess, c.Encrypts, c.Local, c.Watcher = false, true, true, nil
		}}
		here := newCache(t, provider, &tokencache.Options{ProviderTimeout: time.Millisecond})
		there := newCache(t, provider, nil)
		ticket := mustSignIn(t, here, a, "read")
		p := here.Partition(ticket.Key())
		for range 2 {
			if tok := mustToken(t, p, a, "read"); tok.Source != tokencache.SourceProvider {
				t.Errorf("from %v", tok.Source)
			}
		}
		if err := there.Partition(ticket.Key()).SignOut(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		_, err := p.Token(t.Context(), request("read"), a)
		wantError(t, err, tokencache.ErrRemoved)

		provider.set(hangLoads, nil)
		began := time.Now()
		wantError(t, p.Check(t.Context()), tokencache.ErrUnavailable)
		if took := time.Since(began); took != 20*time.Millisecond {
			t.Errorf("the call was ended after %v, want 20 times ProviderTimeout", took)
		}
	})
}
