package providertest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func cacheTokenTests() []testCase {
	return []testCase{
		{"SignIn", testCacheSignIn},
		{"FromL1", testCacheFromL1},
		{"PeerSees", testCachePeerSees},
		{"TwoSignIns", testCacheTwoSignIns},
		{"Scopes", testCacheScopes},
		{"WithoutLeases", testCacheWithoutLeases},
		{"Large", testCacheLarge},
		{"TooLarge", testCacheTooLarge},
		{"Close", testCacheClose},
	}
}

// testCacheSignIn: who signs in on one machine has tokens on the other, at once
// and without asking the server; somebody else has not.
func testCacheSignIn(e *env) {
	s := e.scene(cacheSetup{})
	for i, m := range []*machine{s.here, s.there, s.here, s.there} {
		other := []*machine{s.there, s.here}[i%2]
		k := s.signIn(m, newAccount(), scopeA).Key()
		got := s.stored(ruleReadYourWrites, other, k, wanting(scopeA))
		if own := s.stored(promiseOwner, m, k, wanting(scopeA)); own.AccessToken != got.AccessToken {
			s.broken(ruleReadYourWrites, "the two machines have different tokens of one sign-in")
		}
		err := s.step(func() error { return other.Partition(k).Check(s.ctx) })
		s.want(ruleReadYourWrites, err, nil, "Check on the other machine")
	}
	for _, m := range []*machine{s.here, s.there} {
		s.wantNone(promiseOwner, m, tokencache.AccountKey(newAccount()), tokencache.ErrNoTokens)
	}
	if n := s.server.refreshes.Load(); n > 0 {
		s.broken(promiseL1, "the server was asked for %d tokens that were stored", n)
	}
}

// testCacheFromL1: what is in this process is not asked of the provider. Copies
// end when the watcher says that it may have missed something, and then the test
// begins anew.
func testCacheFromL1(e *env) {
	const hits = 100
	if e.caps.Local {
		e.Skip("a Local provider is asked each time")
	}
	s := e.scene(cacheSetup{})
	k := s.signIn(s.here, newAccount(), scopeA).Key()
	for _, m := range []*machine{s.here, s.there} {
		for end := time.Now().Add(s.patience()); ; {
			missed := m.spy.missed.Load()
			s.stored(ruleReadYourWrites, m, k, wanting(scopeA))
			calls, elsewhere := m.spy.calls.Load(), 0
			for range hits {
				tok, err := s.ask(m, k, wanting(scopeA), nil)
				s.want(promiseL1, err, nil, "Token")
				if tok.Source != tokencache.SourceL1 {
					elsewhere++
				}
			}
			calls = m.spy.calls.Load() - calls
			if calls == 0 && elsewhere == 0 {
				break
			}
			if m.spy.missed.Load() == missed || time.Now().After(end) {
				s.broken(promiseL1, "%d tokens that this process has cost %d calls of the provider, %d came from elsewhere",
					hits, calls, elsewhere)
			}
			time.Sleep(s.expiry / 20)
		}
	}
}

// testCachePeerSees: once its copy has ended by age, a machine has what the other
// one saved, without asking the server.
func testCachePeerSees(e *env) {
	s := e.scene(cacheSetup{maxAge: e.expiry, hide: hideWatcher})
	k := s.signIn(s.here, newAccount(), scopeA).Key()
	s.stored(ruleReadYourWrites, s.there, k, wanting(scopeA)) // has a copy from here on
	fresh := s.token(promiseNobodyOut, s.here, k, wanting(scopeB))
	s.outlast()
	if got := s.stored(promiseMaxAge, s.there, k, wanting(scopeB)); got.AccessToken != fresh.AccessToken {
		s.broken(promiseMaxAge, "the other machine has another token than was saved")
	}
}

// testCacheTwoSignIns: two browsers of one user, on two machines at once.
func testCacheTwoSignIns(e *env) {
	s := e.scene(cacheSetup{slow: e.expiry / 20})
	for range 5 {
		account, scopes := newAccount(), []string{scopeA, scopeB}
		s.each(1, func(i int, m *machine) {
			if _, err := s.trySignIn(m, account, scopes[i], ""); err != nil {
				s.breach(promiseJoin, "SignIn beside another: error %v", err)
			}
		})
		m := s.fresh()
		for _, scope := range scopes {
			s.stored(promiseJoin, m, tokencache.AccountKey(account), wanting(scope))
		}
	}
}

// testCacheScopes: tokens for several scopes and tenants, obtained on two
// machines at once, are all there afterwards. Nothing but the conditions keeps
// the writes apart: there is no lease to wait for, and nobody hears that what he
// wrote was replaced, to put it back.
func testCacheScopes(e *env) {
	s := e.scene(cacheSetup{hide: hideLeaserAndWatcher, slow: e.expiry / 20})
	s.server.keeps = true
	s.manyRequests(promiseMerge)
}

// manyRequests obtains tokens for scopes and tenants on both machines at once.
func (s *scene) manyRequests(rule string) {
	s.Helper()
	s.server.delay = s.expiry / 20
	k := s.signIn(s.here, newAccount(), scopeA).Key()
	const each = 4
	requests, got := make([]tokencache.Request, 2*each), make([]tokencache.Secret, 2*each)
	s.each(each, func(i int, m *machine) {
		requests[i] = wanting(fmt.Sprintf("marker-scope-%d", i/4))
		requests[i].Tenant = fmt.Sprintf("marker-tenant-%d", i%4)
		tok, err := s.ask(m, k, requests[i], s.server)
		if err != nil {
			s.breach(rule, "Token beside others: error %v", err)
		}
		got[i] = tok.AccessToken
	})
	m := s.fresh()
	for i, req := range requests {
		if tok := s.stored(rule, m, k, req); tok.AccessToken != got[i] {
			s.broken(rule, "another token is stored than was handed out")
		}
	}
	s.wantUnspent()
}

// testCacheWithoutLeases: each machine asks the server once at most, everybody
// gets a token, and what is stored is good for the next refresh.
func testCacheWithoutLeases(e *env) {
	s := e.scene(cacheSetup{maxAge: noCopies, hide: hideLeaser})
	s.server.lenient, s.server.delay = true, e.expiry/10
	k := s.signIn(s.here, newAccount(), scopeA).Key()
	for range 3 {
		s.expire(s.here, k)
		before := s.server.refreshes.Load()
		s.each(8, func(_ int, m *machine) {
			if _, err := s.ask(m, k, wanting(scopeA), s.server); err != nil {
				s.breach(promiseNobodyOut, "Token without leases: error %v", err)
			}
		})
		s.stored(promiseMerge, s.fresh(), k, wanting(scopeA))
		if n := s.server.refreshes.Load() - before; n < 1 || n > 2 && !s.outages {
			s.breach(promiseNoLeases, "two machines asked the server %d times", n)
		}
	}
}

// testCacheLarge: a partition of nearly the largest size arrives whole.
func testCacheLarge(e *env) {
	const size = tokencache.MaxTokensSize - 8<<10
	s := e.scene(cacheSetup{})
	ticket, err := s.trySignIn(s.here, newAccount(), scopeA, strings.Repeat("x", size))
	s.want(promiseLargest, err, nil, "SignIn with a large token")
	r, err := s.load(s.here.spy.saved()[0])
	s.want(promiseLargest, err, nil, "Load of a large partition")
	if len(r.Sealed) < size {
		s.broken(promiseLargest, "of more than %d bytes, %d are stored", size, len(r.Sealed))
	}
	s.stored(promiseLargest, s.there, ticket.Key(), wanting(scopeA))
	s.token(promiseLargest, s.there, ticket.Key(), wanting(scopeB))
	s.stored(promiseLargest, s.fresh(), ticket.Key(), wanting(scopeB))
}

// testCacheTooLarge: what is too large is refused, and changes nothing.
func testCacheTooLarge(e *env) {
	s := e.scene(cacheSetup{})
	account := newAccount()
	k := s.signIn(s.here, account, scopeA).Key()
	n := s.here.spy.saved()[0]
	before, err := s.load(n)
	s.want(ruleReadYourWrites, err, nil, "Load of a sign-in")
	for _, m := range []*machine{s.here, s.there} {
		_, err := s.trySignIn(m, account, scopeB, strings.Repeat("x", tokencache.MaxTokensSize))
		s.want(promiseTooLarge, err, tokencache.ErrTooLarge, "SignIn with a token that is too large")
	}
	after, err := s.load(n)
	s.want(promiseTooLarge, err, nil, "Load after a save that was refused")
	if after.Version != before.Version {
		s.broken(promiseTooLarge, "the partition was saved")
	}
	s.stored(promiseTooLarge, s.fresh(), k, wanting(scopeA))
	s.token(promiseTooLarge, s.there, k, wanting(scopeB)) // with the refresh token of before
	s.wantUnspent()
}

// testCacheClose: what was handed out is stored once Close has returned, also
// what could not be stored at the time.
func testCacheClose(e *env) {
	const users = 8
	s := e.scene(cacheSetup{})
	keys, got := make([]tokencache.Key, users), make([]tokencache.Secret, users)
	for i := range keys {
		keys[i] = s.signIn(s.here, newAccount(), scopeA).Key()
	}
	var asking sync.WaitGroup
	defer asking.Wait() // a caller reports to the test, which must not have ended
	gate := s.server.hold()
	for i, k := range keys {
		asking.Go(func() {
			tok, err := s.ask(s.here, k, wanting(scopeB), s.server)
			if err != nil {
				s.breach(promiseKept, "Token while saves fail: error %v", err)
			}
			got[i] = tok.AccessToken
		})
	}
	// All are at the server before a save fails: later ones would not be let there.
	s.arrive(gate, users)
	s.here.spy.refusing.Store(true)
	close(gate.opened)
	asking.Wait()
	time.AfterFunc(e.expiry, func() { s.here.spy.refusing.Store(false) })
	s.close(s.here)
	for i, k := range keys {
		tok, err := s.ask(s.there, k, wanting(scopeB), nil)
		if errors.Is(err, tokencache.ErrNoTokens) || err == nil && tok.AccessToken != got[i] {
			s.broken(promiseKept, "Close has returned, and a token that was handed out is not stored")
		}
		s.want(promiseKept, err, nil, "Token after Close on the other machine")
		s.token(promiseNobodyOut, s.there, k, tokencache.Request{Scopes: []string{scopeB}, Refused: got[i]})
	}
	s.wantUnspent()
}
