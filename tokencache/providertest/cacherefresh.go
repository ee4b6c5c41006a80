package providertest

import (
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func cacheLeaseTests() []testCase {
	return []testCase{
		{"RefreshOnce", testCacheRefreshOnce},
		{"Refused", testCacheRefused},
		{"Scopes", testCacheStrictScopes},
		{"Users", testCacheUsers},
	}
}

// overlong is a server's time for a refresh that outlasts a machine's wait until it
// looks for the lease again. So a lease that does not hold is found out each time.
const overlong = 100 * time.Millisecond

// rounds yields rounds for as long as a test goes on: where there are outages,
// long enough to meet some.
func (s *scene) rounds(yield func(int) bool) {
	end := time.Now()
	if s.outages {
		end = end.Add(4 * s.expiry)
	}
	for i := 0; i < 3 || time.Now().Before(end); i++ {
		if s.Failed() || !yield(i) {
			return
		}
		time.Sleep(s.expiry / 20)
	}
}

// testCacheRefreshOnce: a token that has expired, wanted by many on both machines.
// The server is asked once, and everybody has its answer.
func testCacheRefreshOnce(e *env) {
	s := e.scene(cacheSetup{maxAge: noCopies})
	s.server.delay = overlong
	k := s.signIn(s.here, newAccount(), scopeA).Key()
	for i := range s.rounds {
		s.expire([]*machine{s.here, s.there}[i%2], k)
		s.refreshedOnce(k, wanting(scopeA))
	}
}

// testCacheRefused: an API refuses a token. Many want another one on both
// machines, which have copies of the refused one.
func testCacheRefused(e *env) {
	s := e.scene(cacheSetup{})
	s.server.delay = overlong
	k := s.signIn(s.here, newAccount(), scopeA).Key()
	refused := s.stored(ruleReadYourWrites, s.there, k, wanting(scopeA)).AccessToken
	for range s.rounds {
		req := wanting(scopeA)
		req.Refused = refused
		refused = s.refreshedOnce(k, req)
	}
}

// refreshedOnce has many ask on both machines, and returns what they got.
func (s *scene) refreshedOnce(k tokencache.Key, req tokencache.Request) tokencache.Secret {
	s.Helper()
	before := s.server.refreshes.Load()
	var mu sync.Mutex
	answers := make(map[tokencache.Secret]bool)
	s.each(12, func(_ int, m *machine) {
		tok, err := s.ask(m, k, req, s.server)
		if err != nil {
			s.breach(promiseNobodyOut, "Token, wanted by many: error %v", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		answers[tok.AccessToken] = true
	})
	s.wantUnspent()
	if n := s.server.refreshes.Load() - before; n != 1 {
		s.breach(promiseOnce, "it was asked %d times", n)
	}
	if s.Failed() {
		s.FailNow()
	}
	if len(answers) != 1 || answers[req.Refused] {
		s.broken(promiseOnce, "there were %d different answers, the refused one among them: %v", len(answers), answers[req.Refused])
	}
	for tok := range answers {
		return tok
	}
	return ""
}

// testCacheStrictScopes: each request spends the refresh token that the one
// before has brought.
func testCacheStrictScopes(e *env) {
	s := e.scene(cacheSetup{})
	s.manyRequests(promiseSpend)
}

// testCacheUsers: many users, each on both machines. At the end all are signed in
// on a machine that knows nothing.
func testCacheUsers(e *env) {
	const users = 10
	s := e.scene(cacheSetup{})
	s.server.delay = overlong
	keys := make([]tokencache.Key, users)
	last := make([]tokencache.Secret, users)
	for i := range keys {
		keys[i] = s.signIn([]*machine{s.here, s.there}[i%2], newAccount(), scopeA).Key()
	}
	for range s.rounds {
		s.each(users, func(i int, m *machine) {
			// Of two machines that refuse the same token, one asks the server.
			req := wanting(scopeA)
			req.Refused = last[i/2]
			if _, err := s.ask(m, keys[i/2], req, s.server); err != nil {
				s.breach(promiseNobodyOut, "Token of one of many users: error %v", err)
			}
		})
		s.wantUnspent()
		for i, k := range keys {
			last[i] = s.token(promiseNobodyOut, s.here, k, wanting(scopeA)).AccessToken
		}
	}
	m := s.fresh()
	for _, k := range keys {
		s.token(promiseNobodyOut, m, k, wanting(scopeB))
	}
	s.wantUnspent()
}
