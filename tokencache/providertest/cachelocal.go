package providertest

import "github.com/coatcheck-go/coatcheck/tokencache"

func cacheLocalTests() []testCase {
	return []testCase{
		{"AtOnce", testCacheLocalAtOnce},
	}
}

// testCacheLocalAtOnce: what the other process has done is seen at the next access,
// although nobody tells of it.
func testCacheLocalAtOnce(e *env) {
	s := e.scene(cacheSetup{hide: hideWatcher})
	k := s.signIn(s.here, newAccount(), scopeA).Key()
	p := s.there.Partition(k) // which may remember what it has read
	for _, scope := range []string{scopeA, scopeB} {
		s.token(promiseOnce, s.here, k, wanting(scope))
		var tok tokencache.Token
		err := s.afterwards(func() (err error) {
			tok, err = p.Token(s.ctx, wanting(scope), nil)
			return err
		})
		s.want(promiseLocal, err, nil, "Token of what another process has obtained")
		if tok.Source != tokencache.SourceProvider {
			s.broken(promiseLocal, "the token came from %v", tok.Source)
		}
	}
	s.signOut(s.here, k)
	_, err := p.Token(s.ctx, wanting(scopeA), nil)
	s.want(promiseLocal, err, tokencache.ErrRemoved, "Token of what another process has signed out")
}
