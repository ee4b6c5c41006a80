package msal_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	msalcache "github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// The store fails at a call of a refresh, or from there on: either MSAL has not asked
// the server yet, and the application hears that the store is unavailable, or it gets
// its token. Afterwards another machine goes on, and the server, which rotates refresh
// tokens, has seen none twice.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	at := func(n int64) func(int64) bool { return func(m int64) bool { return m == n } }
	from := func(n int64) func(int64) bool { return func(m int64) bool { return m >= n } }
	for name, test := range map[string]struct {
		fault providertest.Fault
		which func(call int64) bool
	}{
		"down from call 1": {providertest.Down(), from(1)}, // the Replace before the refresh
		"down from call 2": {providertest.Down(), from(2)}, // the Replace after it
		"down from call 3": {providertest.Down(), from(3)}, // the load of Merge
		"down from call 4": {providertest.Down(), from(storeCalls)},
		"down at call 1":   {providertest.Down(), at(1)},
		"down at call 2":   {providertest.Down(), at(2)},
		"down at call 3":   {providertest.Down(), at(3)},
		"down at call 4":   {providertest.Down(), at(storeCalls)},
		"hangs at call 1":  {providertest.Hang(), at(1)},
		"hangs at call 2":  {providertest.Hang(), at(2)},
		"hangs at call 3":  {providertest.Hang(), at(3)},
		"hangs from 4":     {providertest.Hang(), from(storeCalls)},
		"reply 1 is lost":  {providertest.LoseReplies(), at(1)},
		"reply 2 is lost":  {providertest.LoseReplies(), at(2)},
		"reply 3 is lost":  {providertest.LoseReplies(), at(3)},
		"from 4 are lost":  {providertest.LoseReplies(), from(storeCalls)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storeFails(t, test.fault, test.which)
		})
	}
}

// storeCalls is how many calls of the provider a refresh makes; the last is the save.
const storeCalls = 4

func storeFails(t *testing.T, fault providertest.Fault, which func(int64) bool) {
	w := newStage(t)
	store := w.provider()
	faults := providertest.NewFaults(store)
	machine := w.cacheWith(faults, &tokencache.Options{L1MaxAge: time.Nanosecond, ProviderTimeout: 5 * time.Millisecond})
	key := w.enter(machine, "anna").Key()
	var made, met atomic.Int64
	faults.Set(func(ctx context.Context, call *providertest.Call) error {
		if n := made.Add(1); which(n) {
			if met.Add(1) == 1 && n == storeCalls && call.Op != providertest.OpSave {
				t.Errorf("call %d is a %s: not every call meets the fault", n, call.Op)
			}
			return fault(ctx, call)
		}
		return call.Do(ctx)
	}, providertest.OpLoad, providertest.OpSave)
	_, err := w.ask(t.Context(), machine.Partition(key), stageMail)
	asked := w.idp.Stats().TokenRequests.RefreshToken
	switch {
	case err != nil:
		if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNoTokens) || asked != 0 {
			t.Errorf("got %v after %d refreshes, want ErrUnavailable before the first", err, asked)
		}
	case asked != 1:
		t.Errorf("%d refreshes, want 1", asked)
	}
	faults.Clear()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := machine.Close(ctx); err != nil { // what could not be stored is, by now
		t.Fatal(err)
	}
	other := w.cache(store).Partition(key)
	if _, cached := w.mustAsk(other, stageMail); cached != (asked == 1) {
		t.Errorf("the other machine has the token: %v, after %d refreshes", cached, asked)
	}
	w.alive(other)
}

// watched calls something before and after each call of MSAL.
type watched struct {
	msalcache.ExportReplace
	before, after func(call int)
	n             int
}

func (x *watched) call(do func() error) error {
	x.n++
	x.before(x.n)
	defer x.after(x.n)
	return do()
}

func (x *watched) Replace(ctx context.Context, c msalcache.Unmarshaler, hints msalcache.ReplaceHints) error {
	return x.call(func() error { return x.ExportReplace.Replace(ctx, c, hints) })
}

func (x *watched) Export(ctx context.Context, c msalcache.Marshaler, hints msalcache.ExportHints) error {
	return x.call(func() error { return x.ExportReplace.Export(ctx, c, hints) })
}

// The request is cancelled at every call that MSAL makes here: what it has received is
// stored.
func TestCancelled(t *testing.T) {
	t.Parallel()
	ignore := func(int) {}
	for n := 1; n <= 3; n++ {
		for name, after := range map[string]bool{"before": false, "after": true} {
			t.Run(fmt.Sprintf("%s call %d", name, n), func(t *testing.T) {
				t.Parallel()
				w := newStage(t)
				c := w.cache(w.provider())
				p := c.Partition(w.enter(c, "anna").Key())
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				at := func(m int) {
					if m == n {
						leave()
					}
				}
				x := &watched{msal.NewExportReplace(p), at, ignore, 0}
				if after {
					x.before, x.after = ignore, at
				}
				_, err := w.silent(ctx, w.client(x), p.Key().Account(), stageMail)
				if ctx.Err() == nil {
					t.Fatal("MSAL has made fewer calls")
				}
				if asked := w.idp.Stats().TokenRequests.RefreshToken; asked == 1 && err != nil {
					t.Errorf("the token is lost: %v", err)
				}
				w.alive(p)
			})
		}
	}
}

// The request is cancelled while MSAL reads the server's answer. This is lost unless
// MSAL's context outlives the request, as the documentation has it.
func TestCancelledWhileTheServerAnswers(t *testing.T) {
	t.Parallel()
	for name, detach := range map[string]bool{"with the request's context": false, "with one that outlives it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newStage(t)
			c := w.cache(w.provider())
			p := c.Partition(w.enter(c, "anna").Key())
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			w.mu.Lock()
			w.answer = func(*http.Response) { leave() }
			w.mu.Unlock()
			calling := ctx
			if detach {
				calling = context.WithoutCancel(ctx)
			}
			_, err := w.ask(calling, p, stageMail)
			if (err == nil) != detach {
				t.Errorf("got %v; does MSAL look at the context here?", err)
			}
			w.mu.Lock()
			w.answer = nil
			w.mu.Unlock()
			if detach {
				w.alive(p)
			} else if _, err := w.ask(t.Context(), p, stageMail); err == nil {
				t.Error("the answer was not lost: the documentation need not warn of it")
			}
		})
	}
}

// Nothing that MSAL obtains brings back who has signed out, nor gets among the tokens of
// a later sign-in.
func TestSignedOutMeanwhile(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"out": false, "out and in again": true} {
		for call := 2; call <= 3; call++ {
			t.Run(fmt.Sprintf("%s before call %d", name, call), func(t *testing.T) {
				t.Parallel()
				w := newStage(t)
				store := w.provider()
				c, other := w.cache(store), w.cache(store)
				p := c.Partition(w.enter(c, "anna").Key())
				var later *tokencache.Partition
				x := &watched{msal.NewExportReplace(p), func(n int) {
					if n != call {
						return
					}
					if err := other.Partition(p.Key()).SignOut(t.Context(), nil); err != nil {
						t.Error(err)
					}
					if again {
						time.Sleep(time.Millisecond)
						later = other.Partition(w.enter(other, "anna").Key())
					}
				}, func(int) {}, 0}
				if _, err := w.silent(t.Context(), w.client(x), p.Key().Account(), stageMail); !errors.Is(err, tokencache.ErrNoTokens) {
					t.Errorf("got %v, want ErrNoTokens", err)
				}
				if !again {
					if _, err := w.ask(t.Context(), other.Partition(p.Key()), stageAPI); !errors.Is(err, tokencache.ErrRemoved) {
						t.Errorf("got %v, want ErrRemoved", err)
					}
					return
				}
				if _, cached := w.mustAsk(later, stageMail); cached {
					t.Error("a token of the earlier sign-in is among the later one's")
				}
				w.alive(later)
			})
		}
	}
}

// Two machines refresh at the same moment, which nobody can prevent here. At a server that
// does not mind, both tokens are there afterwards.
func TestRefreshedOnTwoMachines(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	store := w.provider()
	one, two := w.cache(store), w.cache(store)
	key := w.enter(one, "anna").Key()
	if err := w.idp.Fault(noRotation()); err != nil {
		t.Fatal(err)
	}
	x := &watched{msal.NewExportReplace(one.Partition(key)), func(n int) {
		if n == 3 { // the first has its answer, and has not stored it
			w.mustAsk(two.Partition(key), "api://two/Read")
		}
	}, func(int) {}, 0}
	if _, err := w.silent(t.Context(), w.client(x), key.Account(), "api://one/Read"); err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{"api://one/Read", "api://two/Read", stageAPI} {
		if _, cached := w.mustAsk(two.Partition(key), scope); !cached {
			t.Errorf("the token for %s was overwritten", scope)
		}
	}
	w.alive(one.Partition(key))
}

// A machine that hears of no changes has an older copy, with a refresh token that another
// one has replaced. That is not given to MSAL.
func TestOlderCopy(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]time.Duration{"with copies": 0, "without": time.Nanosecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newStage(t)
			store := &deaf{w.provider()}
			one, two := w.cacheWith(store, &tokencache.Options{L1MaxAge: age}), w.cache(store)
			key := w.enter(one, "anna").Key()
			w.mustAsk(one.Partition(key), stageAPI)
			w.mustAsk(two.Partition(key), "api://two/Read")
			if _, err := w.ask(t.Context(), one.Partition(key), "api://one/Read"); err != nil {
				t.Errorf("the copy was given to MSAL: %v", err)
			}
			w.alive(two.Partition(key))
		})
	}
}

// deaf is a provider that tells of no changes.
type deaf struct{ tokencache.Provider }

func (d *deaf) Capabilities() tokencache.Capabilities {
	c := d.Provider.Capabilities()
	c.Watcher = nil
	return c
}

// The crowd of the shared client, each call with its own.
func TestCrowd(t *testing.T) {
	t.Parallel()
	w, blobs := newStage(t), newSamples()
	accounts := w.crowd(blobs)[:200]
	c := w.cacheWith(w.provider(), nil)
	keys := make(map[string]tokencache.Key, len(accounts))
	for _, account := range accounts {
		ticket, err := c.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
			tokens := &tokencache.Tokens{}
			err := tokens.UnmarshalJSON([]byte(blobs.get(account)))
			return tokencache.Grant{Tokens: tokens, Account: tokencache.Account{ID: account}}, err
		})
		if err != nil {
			t.Fatal(err)
		}
		keys[account] = ticket.Key()
	}
	before := w.requests("token")
	o := bustle(t.Context(), accounts, func(ctx context.Context, account string) (confidential.AuthResult, error) {
		return w.ask(ctx, c.Partition(keys[account]), stageAPI)
	})
	if o.failed.Load()+o.noAccount.Load()+o.another.Load() > 0 || w.requests("token") != before {
		t.Error("a client for each call:", o)
	}
	one := w.client(msal.NewExportReplace(c.Partition(keys[accounts[0]])))
	o = bustle(t.Context(), accounts[:1], func(ctx context.Context, account string) (confidential.AuthResult, error) {
		return w.silent(ctx, one, account, stageAPI)
	})
	if o.failed.Load()+o.noAccount.Load()+o.another.Load() > 0 {
		t.Error("one client of one user:", o)
	}
	o = bustle(t.Context(), accounts[1:], func(ctx context.Context, account string) (confidential.AuthResult, error) {
		return w.silent(ctx, one, account, stageAPI)
	})
	if o.failed.Load() != o.calls.Load() {
		t.Error("one client of several users is not refused:", o)
	}
}

// What cannot be stored at all is handed out all the same.
func TestNotStoredAtAll(t *testing.T) {
	t.Parallel()
	for name, veto := range map[string]bool{"a hook refuses": true, "the cache is closed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newStage(t)
			var armed atomic.Bool
			c := w.cacheWith(w.provider(), &tokencache.Options{
				L1MaxAge: time.Nanosecond,
				BeforeWrite: func(context.Context, *tokencache.Access) error {
					if armed.Load() {
						return errTest
					}
					return nil
				},
			})
			p := c.Partition(w.enter(c, "anna").Key())
			if armed.Store(veto); !veto {
				if err := c.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if token, cached := w.mustAsk(p, stageMail); token == "" || cached {
				t.Error("no token, or a cached one")
			}
		})
	}
}

// The partition is evicted while MSAL asks the server. Nobody has signed out, so that it
// is made again.
func TestEvictedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	store := w.provider()
	faults := providertest.NewFaults(&deaf{store})
	// On a machine that has not heard of the sign-in: others would store it again.
	p := w.cache(faults).Partition(w.enter(w.cache(store), "anna").Key())
	var loads atomic.Int64
	faults.Set(func(ctx context.Context, call *providertest.Call) error {
		if n := loads.Add(1); n == 2 || n == 3 {
			return tokencache.ErrNotFound
		}
		return call.Do(ctx)
	}, providertest.OpLoad)
	if _, cached := w.mustAsk(p, stageMail); cached || loads.Load() < 3 {
		t.Error("nothing was evicted")
	}
	other := w.cache(store).Partition(p.Key())
	if _, cached := w.mustAsk(other, stageMail); !cached {
		t.Error("the token is not stored")
	}
	w.alive(other)
}
