package providertest

import (
	"bytes"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func cacheSealingTests() []testCase {
	return []testCase{
		{"Opaque", testCacheOpaque},
		{"Copied", testCacheCopied},
		{"Older", testCacheOlder},
		{"OtherKeys", testCacheOtherKeys},
	}
}

// testCacheOpaque: neither what is stored nor what it is called tells anything.
func testCacheOpaque(e *env) {
	s := e.scene(cacheSetup{})
	account := newAccount()
	k := s.signIn(s.here, account, scopeA).Key()
	s.token(promiseNobodyOut, s.here, k, wanting(scopeB))
	caller := s.caller(account)
	s.token(promiseMerge, s.here, caller, wanting(scopeA))
	s.stored(ruleReadYourWrites, s.fresh(), caller, wanting(scopeA)) // by now
	words := append(s.server.secrets(), "marker", "issuer.example", "user@", strings.TrimPrefix(account, "marker-account-"))
	names := s.here.spy.saved()
	if len(names) != 2 {
		s.Fatalf("the test looks at %d records instead of 2", len(names))
	}
	for _, n := range names {
		r, err := s.load(n)
		s.want(ruleReadYourWrites, err, nil, "Load of what was saved")
		if len(r.Sealed) < 100 {
			s.broken(ruleReadYourWrites, "the record has %d bytes", len(r.Sealed))
		}
		for i, word := range words {
			if bytes.Contains(r.Sealed, []byte(word)) {
				s.broken(promiseSealed, "the record has a word of its content in it (number %d)", i)
			}
			if strings.Contains(n.Owner+" "+n.Partition, word) {
				s.broken(promiseHashes, "the name has a word of the content in it (number %d)", i)
			}
		}
	}
}

// user is somebody who has signed in here, and the name of their record.
func (s *scene) user() (account string, name tokencache.Name) {
	s.Helper()
	account = newAccount()
	s.signIn(s.here, account, scopeA)
	names := s.here.spy.saved()
	return account, names[len(names)-1]
}

// wantUnreadable reports a record that opens, or a user who cannot sign in again.
// Machines with copies serve those meanwhile, so that one without is asked.
func (s *scene) wantUnreadable(rule, account string, n tokencache.Name) {
	s.Helper()
	k := tokencache.AccountKey(account)
	planted, err := s.load(n)
	s.want(ruleSave, err, nil, "Load of what was put there")
	m := s.fresh()
	_, err = s.ask(m, k, wanting(scopeA), s.server)
	s.want(rule, err, tokencache.ErrUnreadable, "Token of a record that was tampered with")
	after, err := s.load(n)
	s.want(promiseUnreadable, err, nil, "Load of what does not open")
	if after.Version != planted.Version {
		s.broken(promiseUnreadable, "the record was replaced, and nobody has signed in")
	}
	tick()
	again := s.signIn(m, account, scopeA).Key()
	s.stored(promiseUnreadable, m, again, wanting(scopeA))
	s.stored(promiseUnreadable, s.fresh(), again, wanting(scopeA))
}

// testCacheCopied: one user's record under another one's name.
func testCacheCopied(e *env) {
	s := e.scene(cacheSetup{})
	ada, hers := s.user()
	bob, his := s.user()
	r, err := s.load(hers)
	s.want(ruleReadYourWrites, err, nil, "Load of what was saved")
	r.Expires = later()
	s.plant(his, r)
	s.wantUnreadable(promiseBound, bob, his)
	s.stored(promiseOwner, s.fresh(), tokencache.AccountKey(ada), wanting(scopeA)) // has lost nothing
}

// testCacheOlder: an earlier record of the same user, under the version of the
// last one, and under a new one.
func testCacheOlder(e *env) {
	s := e.scene(cacheSetup{})
	for range 2 {
		account, n := s.user()
		k := tokencache.AccountKey(account)
		old, err := s.load(n)
		s.want(ruleReadYourWrites, err, nil, "Load of what was saved")
		s.token(promiseNobodyOut, s.here, k, wanting(scopeB))
		s.stored(promiseMerge, s.fresh(), k, wanting(scopeB)) // by now
		now, err := s.load(n)
		s.want(ruleReadYourWrites, err, nil, "Load of what was saved")
		planted := now.Version
		if s.server.refreshes.Load() > 1 {
			planted = tokencache.NewVersion()
		}
		s.plant(n, tokencache.Record{Sealed: old.Sealed, Version: planted, Expires: later()})
		s.wantUnreadable(promiseBound, account, n)
	}
	s.wantUnspent()
}

// testCacheOtherKeys: a machine that has not got the key can do nothing with the
// record, and leaves it alone.
func testCacheOtherKeys(e *env) {
	s := e.scene(cacheSetup{})
	account, n := s.user()
	k := tokencache.AccountKey(account)
	before, err := s.load(n)
	s.want(ruleReadYourWrites, err, nil, "Load of what was saved")
	ours := s.keys
	s.keys = s.newKeys()
	s.keys.Names = ours.Names
	stranger := s.fresh()
	s.keys = ours
	for range 3 {
		_, err = s.ask(stranger, k, wanting(scopeA), s.server)
		s.want(promiseSealed, err, tokencache.ErrUnreadable, "Token with another key ring")
		time.Sleep(s.expiry / 10)
	}
	after, err := s.load(n)
	s.want(promiseUnreadable, err, nil, "Load of what somebody cannot open")
	if after.Version != before.Version || !bytes.Equal(after.Sealed, before.Sealed) {
		s.broken(promiseUnreadable, "the record is not what it was")
	}
	s.stored(promiseUnreadable, s.fresh(), k, wanting(scopeA))
	s.token(promiseNobodyOut, s.there, k, wanting(scopeB))
	if n := s.server.refreshes.Load(); n != 1 && !s.outages {
		s.broken(promiseUnreadable, "the server was asked %d times, want once by who has the key", n)
	}
}
