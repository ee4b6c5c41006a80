package providertest

import (
	"errors"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func cacheWatchTests() []testCase {
	return []testCase{
		{"SignOut", testCacheWatchedSignOut},
		{"Refresh", testCacheWatchedRefresh},
	}
}

// copied has the other machine keep a copy, for longer than any test.
func (s *scene) copied(k tokencache.Key) {
	s.Helper()
	err := s.afterwards(func() error {
		for range 2 {
			tok, err := s.there.Partition(k).Token(s.ctx, wanting(scopeA), nil)
			if err != nil {
				return err
			}
			if tok.Source == tokencache.SourceL1 {
				return nil
			}
		}
		return errors.New("the token is not kept in this process")
	})
	if err != nil {
		s.broken(promiseL1, "Token, twice: error %v", err)
	}
}

// heard waits until the other machine does as it must once it has heard.
func (s *scene) heard(what string, done func() bool) {
	s.Helper()
	for end := time.Now().Add(s.patience()); !done(); time.Sleep(s.expiry / 50) {
		if time.Now().After(end) {
			s.broken(promiseWatch, "within %v the other machine has not heard of %s", s.patience(), what)
		}
	}
}

// testCacheWatchedSignOut: the copies of the other machine end long before their
// age, as the provider tells of the sign-out.
func testCacheWatchedSignOut(e *env) {
	s := e.scene(cacheSetup{})
	account := newAccount()
	for everywhere := range 2 {
		tick()
		k := s.signIn(s.here, account, scopeA).Key()
		s.heard("the sign-in", func() bool {
			_, err := s.ask(s.there, k, wanting(scopeA), nil)
			return err == nil
		})
		s.copied(k)
		if everywhere == 1 {
			s.signOutEverywhere(s.here, k)
		} else {
			s.signOut(s.here, k)
		}
		s.heard("the sign-out", func() bool {
			_, err := s.ask(s.there, k, wanting(scopeA), s.server)
			if err != nil {
				s.want(promiseSignOut, err, tokencache.ErrRemoved, "Token after the sign-out on the other machine")
			}
			return err != nil
		})
	}
}

// testCacheWatchedRefresh: so they do after any other change.
func testCacheWatchedRefresh(e *env) {
	s := e.scene(cacheSetup{})
	k := s.signIn(s.here, newAccount(), scopeA).Key()
	s.copied(k)
	for range 3 {
		req := wanting(scopeA)
		req.Refused = s.stored(ruleReadYourWrites, s.there, k, wanting(scopeA)).AccessToken
		next := s.token(promiseNobodyOut, s.here, k, req).AccessToken
		s.heard("the refresh", func() bool {
			tok, err := s.ask(s.there, k, wanting(scopeA), nil)
			return err == nil && tok.AccessToken == next
		})
	}
	s.wantUnspent()
}
