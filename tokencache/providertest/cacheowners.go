package providertest

import (
	"context"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func cacheOwnerTests() []testCase {
	return []testCase{
		{"Everywhere", testCacheEverywhere},
		{"InFlight", testCacheEverywhereInFlight},
		{"SignInAgain", testCacheSignInAgain},
		{"OneSession", testCacheOneSession},
	}
}

// testCacheOneSession: what came from one session at the server ends with it, told on
// the other machine, and nothing else of the account.
func testCacheOneSession(e *env) {
	s := e.scene(cacheSetup{maxAge: e.expiry})
	account := newAccount()
	var gone, kept []tokencache.Key
	for _, session := range []string{"marker-1", "marker-2"} {
		for _, m := range []*machine{s.here, s.there} {
			key := s.signInFrom(m, session, account).Key()
			s.stored(ruleReadYourWrites, s.there, key, wanting(scopeA))
			if session == "marker-1" {
				gone = append(gone, key)
			} else {
				kept = append(kept, key)
			}
		}
	}
	kept = append(kept, s.signIn(s.here, account, scopeA).Key())
	known := false
	err := s.step(func() (err error) {
		known, err = s.there.SignOutSID(s.ctx, "marker-1", nil)
		return err
	})
	s.want(promiseSID, err, nil, "SignOutSID")
	if !known {
		s.broken(promiseSID, "the session is not known")
	}
	s.outlast() // copies
	for _, m := range []*machine{s.here, s.there, s.fresh()} {
		for _, k := range gone {
			s.wantNone(promiseSID, m, k, tokencache.ErrRemoved)
		}
		for _, k := range kept {
			s.stored(promiseSID, m, k, wanting(scopeA))
		}
	}
}

// signInFrom signs the account in from a session at the server, apart from its others.
func (s *scene) signInFrom(m *machine, sid, account string) (ticket tokencache.Ticket) {
	s.Helper()
	apart := "marker-apart-" + tokencache.NewVersion().String()
	err := s.step(func() (err error) {
		ticket, err = m.SignInSession(s.ctx, apart, func(context.Context) (tokencache.Grant, error) {
			g := s.server.grant(account, scopeA, "")
			g.SID = sid
			return g, nil
		})
		return err
	})
	s.want(promiseSignIn, err, nil, "SignInSession")
	return ticket
}

// verifier takes every token for the account's.
type verifier struct{ account string }

func (v verifier) Verify(context.Context, string) (tokencache.AssertionClaims, error) {
	return tokencache.AssertionClaims{Account: v.account, Expires: time.Now().Add(time.Hour)}, nil
}

// caller returns the key of what is obtained on behalf of the account, for one
// incoming token.
func (s *scene) caller(account string) tokencache.Key {
	s.Helper()
	a, err := tokencache.VerifyAssertion(s.ctx, verifier{account}, "marker-incoming-"+tokencache.NewVersion().String())
	if err != nil {
		s.Fatal("VerifyAssertion:", err)
	}
	return tokencache.AssertionKey(a)
}

// testCacheEverywhere: everything that the account owns ends, on every machine,
// and nothing of another account.
func testCacheEverywhere(e *env) {
	const callers = 4
	s := e.scene(cacheSetup{maxAge: e.expiry})
	everything := func(account string) (keys []tokencache.Key) {
		keys = append(keys, s.signIn(s.here, account, scopeA).Key())
		for i := range callers {
			k := s.caller(account)
			s.token(promiseMerge, []*machine{s.here, s.there}[i%2], k, wanting(scopeA))
			s.stored(ruleReadYourWrites, s.fresh(), k, wanting(scopeA)) // by now
			keys = append(keys, k)
		}
		return keys
	}
	account := newAccount()
	gone := everything(account)
	owner := s.here.spy.saved()[0].Owner
	kept := everything(newAccount())
	s.signOutEverywhere(s.there, gone[0])
	s.outlast() // copies
	for _, m := range []*machine{s.here, s.there, s.fresh()} {
		for _, k := range gone {
			s.wantNone(promiseEverywhere, m, k, tokencache.ErrRemoved)
		}
		for _, k := range kept {
			s.stored(promiseEverywhere, m, k, wanting(scopeA))
		}
	}
	var listed []tokencache.Name
	err := s.rawStep(func() (err error) {
		listed, err = s.caps.Owners.List(s.ctx, owner)
		return err
	})
	s.want(ruleList, err, nil, "List")
	if len(listed) > 0 {
		s.broken(promiseEverywhere, "%d partitions are still listed", len(listed))
	}
	s.wantBuried(promiseEverywhere, owner)
}

// wantBuried reports records of the owner, under the names that were saved.
func (s *scene) wantBuried(rule, owner string) {
	s.Helper()
	for _, n := range append(s.here.spy.saved(), s.there.spy.saved()...) {
		if n.Owner != owner {
			continue
		}
		if r, err := s.load(n); !r.Removed() {
			s.broken(rule, "a record of the account is there (error %v)", err)
		}
	}
}

// testCacheEverywhereInFlight: on the other machine a refresh, a request on behalf
// of the user, and a sign-in in another browser are at the server.
func testCacheEverywhereInFlight(e *env) {
	s := e.scene(cacheSetup{})
	account := newAccount()
	own, caller := s.signIn(s.here, account, scopeA).Key(), s.caller(account)
	gate := s.server.hold()
	refreshed, created, signedIn := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.ask(s.there, own, wanting(scopeB), s.server)
		refreshed <- err
	}()
	go func() {
		_, err := s.ask(s.there, caller, wanting(scopeA), s.server)
		created <- err
	}()
	go func() {
		_, err := s.there.SignIn(s.ctx, func(ctx context.Context) (tokencache.Grant, error) {
			g := s.server.grant(account, scopeB, "")
			return g, gate.pass(ctx)
		})
		signedIn <- err
	}()
	s.arrive(gate, 3)
	tick()
	s.signOutEverywhere(s.here, own)
	close(gate.opened)
	s.wantRefused(promiseRefused, <-refreshed)
	s.wantRefused(promiseRefused, <-created)
	s.wantRefused(promiseLateSignIn, <-signedIn)
	s.close(s.there) // whatever it has kept to store it later
	for _, m := range []*machine{s.here, s.fresh()} {
		// A caller's partition that was never stored is no more than absent.
		s.wantNone(promiseRefused, m, own, tokencache.ErrNoTokens)
		s.wantNone(promiseRefused, m, caller, tokencache.ErrNoTokens)
	}
	s.wantBuried(promiseRefused, s.here.spy.saved()[0].Owner)
}

// testCacheSignInAgain: right after signing out everywhere, on either machine.
func testCacheSignInAgain(e *env) {
	s := e.scene(cacheSetup{maxAge: e.expiry})
	account := newAccount()
	old := s.signIn(s.here, account, scopeA).Key()
	for _, m := range []*machine{s.there, s.here} {
		s.stored(ruleReadYourWrites, s.there, old, wanting(scopeA))
		s.signOutEverywhere(s.here, old)
		tick()
		now := s.signIn(m, account, scopeA).Key()
		for _, m := range []*machine{s.here, s.there, s.fresh()} {
			s.stored(promiseSignIn, m, now, wanting(scopeA))
		}
		s.token(promiseSignIn, s.there, now, wanting(scopeB))
		caller := s.caller(account)
		s.token(promiseSignIn, s.here, caller, wanting(scopeA))
		s.stored(promiseSignIn, s.there, caller, wanting(scopeA))
		s.outlast() // copies
		for _, m := range []*machine{s.here, s.there, s.fresh()} {
			s.wantNone(promiseTicket, m, old, tokencache.ErrNoTokens)
		}
		old = now
	}
	s.wantUnspent()
}
