package msal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
)

const (
	crowdUsers   = 1000
	crowdWorkers = 16
	crowdCalls   = 20 // of each worker
)

// crowd stores a valid access token for each of a thousand users, who differ in their
// account alone, and returns their accounts. They have no refresh token that is good.
func (w *stage) crowd(store *samples) []string {
	w.t.Helper()
	one := w.signIn(w.client(store), "anna").Account.HomeAccountID
	blob := strings.ReplaceAll(store.get(one), blobRefreshToken(store.get(one)), "marker-spent")
	accounts := make([]string, crowdUsers)
	for i := range accounts {
		accounts[i] = fmt.Sprintf("%08d%s", i, one[8:])
		store.set(accounts[i], strings.ReplaceAll(blob, one, accounts[i]))
	}
	return accounts
}

// outcome counts the calls of a crowd.
type outcome struct{ calls, failed, noAccount, another atomic.Int64 }

func (o *outcome) String() string {
	n := float64(o.calls.Load())
	return fmt.Sprintf("%d calls: %.1f %% failed, %.1f %% without account, %d with another's", o.calls.Load(),
		100*float64(o.failed.Load())/n, 100*float64(o.noAccount.Load())/n, o.another.Load())
}

// bustle has the crowd ask for the tokens that they have.
func bustle(ctx context.Context, accounts []string, ask func(ctx context.Context, account string) (confidential.AuthResult, error)) *outcome {
	var o outcome
	var wg sync.WaitGroup
	for range crowdWorkers {
		wg.Go(func() {
			for range crowdCalls {
				account := accounts[rand.IntN(len(accounts))]
				ar, err := ask(ctx, account)
				o.calls.Add(1)
				switch {
				case err != nil:
					o.failed.Add(1)
				case ar.Account.HomeAccountID == "":
					o.noAccount.Add(1)
				case ar.Account.HomeAccountID != account:
					o.another.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return &o
}

// overtaken has the second user's tokens loaded between the first user's load and read.
type overtaken struct {
	*samples
	first, second  string
	loaded, passed chan struct{}
}

func (o *overtaken) Replace(ctx context.Context, c cache.Unmarshaler, hints cache.ReplaceHints) error {
	if hints.PartitionKey == o.second {
		<-o.loaded
		defer close(o.passed)
		return o.samples.Replace(ctx, c, hints)
	}
	defer func() {
		close(o.loaded)
		select {
		case <-o.passed:
		case <-time.After(2 * time.Second): // the second user is kept waiting
		}
	}()
	return o.samples.Replace(ctx, c, hints)
}

// One client for two users, whose tokens are stored and valid: what is loaded for one is
// replaced by what is loaded for the other before it is read.
func TestDefectSharedClientFails(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), newSamples()
	c := w.client(store)
	o := &overtaken{
		store, w.signIn(c, "anna").Account.HomeAccountID, w.signIn(c, "berta").Account.HomeAccountID,
		make(chan struct{}), make(chan struct{}),
	}
	shared := w.client(o)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := w.silent(t.Context(), shared, o.second, stageAPI); err != nil {
			t.Error("whoever comes last is not served either:", err)
		}
	})
	if _, err := w.silent(t.Context(), shared, o.first, stageAPI); err == nil {
		t.Error("users can share a client now: the documentation may say so, and ExportReplace be resolved from the context")
	}
	wg.Wait()
}

// How often that happens to a web application with one client for everybody, and that it
// does not happen to one with a client for each call.
func TestSharedClientMeasured(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]time.Duration{"store in memory": 0, "store at 1 ms": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, store := newStage(t), newSamples()
			accounts := w.crowd(store)
			store.delay = delay
			shared := w.client(store)
			t.Log("shared:", bustle(t.Context(), accounts, func(ctx context.Context, account string) (confidential.AuthResult, error) {
				return w.silent(ctx, shared, account, stageAPI)
			}))
			o := bustle(t.Context(), accounts, func(ctx context.Context, account string) (confidential.AuthResult, error) {
				return w.silent(ctx, w.client(store), account, stageAPI)
			})
			if o.failed.Load()+o.noAccount.Load()+o.another.Load() > 0 {
				t.Error("a client for each call:", o)
			}
		})
	}
}

// rendezvous answers the first Replace of every call only when all have asked.
type rendezvous struct {
	*samples
	all   sync.WaitGroup
	first sync.Map
}

func (r *rendezvous) Replace(ctx context.Context, c cache.Unmarshaler, hints cache.ReplaceHints) error {
	err := r.samples.Replace(ctx, c, hints)
	if _, again := r.first.LoadOrStore(c, true); !again {
		r.all.Done()
		r.all.Wait()
	}
	return err
}

// Sixteen requests of one user find an expired token.
func TestDefectNoSingleFlight(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), &rendezvous{samples: newSamples()}
	account := w.signIn(w.client(store.samples), "anna").Account.HomeAccountID
	store.set(account, expired(store.get(account)))
	store.all.Add(crowdWorkers)
	var wg sync.WaitGroup
	var served atomic.Int64
	for range crowdWorkers {
		c := w.client(store)
		wg.Go(func() {
			if _, err := w.silent(t.Context(), c, account, stageAPI); err == nil {
				served.Add(1)
			}
		})
	}
	wg.Wait()
	if n := w.idp.Stats().TokenRequests.RefreshToken; n != crowdWorkers {
		t.Errorf("%d refreshes for %d calls: they wait for each other now, which the documentation may say", n, crowdWorkers)
	}
	if n := served.Load(); n != 1 || w.idp.Stats().FamiliesRevoked != 1 {
		t.Errorf("%d calls were served, of a family that is revoked %d times, want 1 and 1", n, w.idp.Stats().FamiliesRevoked)
	}
}

// One client of one user does not spare them that either.
func TestDefectNoSingleFlightInOneClient(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), newSamples()
	c := w.client(store)
	account := w.signIn(c, "anna").Account.HomeAccountID
	store.set(account, expired(store.get(account)))
	// All have loaded before the first is answered.
	if err := w.idp.Fault(delayedToken()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range crowdWorkers {
		wg.Go(func() { _, _ = w.silent(t.Context(), c, account, stageAPI) })
	}
	wg.Wait()
	if n := w.idp.Stats().TokenRequests.RefreshToken; n < 2 {
		t.Errorf("%d refresh for %d calls of one client: they wait for each other now, which the documentation may say", n, crowdWorkers)
	}
}
