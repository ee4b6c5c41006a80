package providertest

import (
	"errors"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func cacheSignOutTests() []testCase {
	return []testCase{
		{"Copies", testCacheSignOutCopies},
		{"Ticket", testCacheTicket},
		{"InFlight", testCacheSignOutInFlight},
	}
}

// testCacheSignOutCopies: a machine that nobody tells stops serving when its copy
// ends. A call that began before may still answer.
func testCacheSignOutCopies(e *env) {
	s := e.scene(cacheSetup{maxAge: e.expiry, hide: hideWatcher})
	k := s.signIn(s.here, newAccount(), scopeA).Key()
	s.stored(ruleReadYourWrites, s.there, k, wanting(scopeA))
	s.signOut(s.here, k)
	s.wantNone(promiseRemoved, s.here, k, tokencache.ErrRemoved)
	out := time.Now()
	for {
		began := time.Now()
		_, err := s.ask(s.there, k, wanting(scopeA), s.server)
		if err != nil {
			s.want(promiseSignOut, err, tokencache.ErrRemoved, "Token after the sign-out on the other machine")
			break
		}
		if late := began.Sub(out); late > s.expiry+s.slack() {
			s.broken(promiseMaxAge, "a token %v after the sign-out, of a copy that lives for %v", late, s.expiry)
		}
		time.Sleep(s.expiry / 20)
	}
}

// testCacheTicket: the user signs out, and in again. The old ticket finds nothing,
// the new one everything.
func testCacheTicket(e *env) {
	s := e.scene(cacheSetup{maxAge: e.expiry})
	account := newAccount()
	old := s.signIn(s.here, account, scopeA).Key()
	s.stored(ruleReadYourWrites, s.there, old, wanting(scopeA)) // has a copy
	s.signOut(s.here, old)
	tick()
	now := s.signIn(s.here, account, scopeA).Key()
	for _, m := range []*machine{s.here, s.there} {
		s.stored(promiseSignIn, m, now, wanting(scopeA))
	}
	s.outlast()
	for _, m := range []*machine{s.here, s.there, s.fresh()} {
		s.wantNone(promiseTicket, m, old, tokencache.ErrNoTokens)
		s.signOut(m, old) // ends nothing
		s.stored(promiseTicket, m, now, wanting(scopeA))
	}
}

// testCacheSignOutInFlight: the server is asked on one machine when the user signs
// out on the other.
func testCacheSignOutInFlight(e *env) {
	s := e.scene(cacheSetup{})
	k := s.signIn(s.here, newAccount(), scopeA).Key()
	gate := s.server.hold()
	ended := make(chan error, 1)
	go func() {
		_, err := s.ask(s.there, k, wanting(scopeB), s.server)
		ended <- err
	}()
	s.arrive(gate, 1)
	s.signOut(s.here, k)
	close(gate.opened)
	s.wantRefused(promiseRemoved, <-ended)
	s.close(s.there) // whatever it has kept to store it later
	s.wantNone(promiseRemoved, s.fresh(), k, tokencache.ErrRemoved)
	s.wantNone(promiseRemoved, s.here, k, tokencache.ErrRemoved)
}

// arrive waits until so many are at the server.
func (s *scene) arrive(g *gate, n int) {
	s.Helper()
	for range n {
		select {
		case <-g.came:
		case <-time.After(s.patience()):
			close(g.opened)
			s.broken(promiseL1, "nobody has asked the server within %v", s.patience())
		}
	}
}

// wantRefused reports what was in flight, if it was stored. A token that cannot be
// saved at once is handed out before it is known that it will be refused, and
// during an outage a sign-in may end without an answer.
func (s *scene) wantRefused(rule string, err error) {
	s.Helper()
	if s.late() && err == nil || s.outages && errors.Is(err, tokencache.ErrUnavailable) {
		return
	}
	s.want(rule, err, tokencache.ErrRemoved, "what was in flight")
}
