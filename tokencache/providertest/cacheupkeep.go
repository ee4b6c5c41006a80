package providertest

import (
	"errors"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func cacheUpkeepTests() []testCase { return []testCase{{"Idle", testCacheIdle}} }

// testCacheIdle: a partition in use outlives its idle time, one that nobody uses
// does not. If the machine or the backend stops for longer than that, neither is
// in use; the test then begins anew.
func testCacheIdle(e *env) {
	s := e.scene(cacheSetup{maxAge: noCopies, idle: 3 * e.expiry})
	for attempt := 0; ; attempt++ {
		err := s.idle()
		if !errors.Is(err, errNotInUse) {
			return
		}
		if attempt == 5 {
			s.Skip("this machine is too slow to use a partition for long enough:", err)
		}
	}
}

var errNotInUse = errors.New("the machine or the backend stopped for half of the idle time")

func (s *scene) idle() error {
	s.Helper()
	idle := s.setup.idle
	_, unused := s.user()
	began := time.Now()
	account, used := s.user()
	k := tokencache.AccountKey(account)
	before, err := s.load(used)
	last := began
	for err == nil && time.Since(began) < idle+idle*2/3 {
		now := time.Now()
		_, err = s.ask(s.there, k, wanting(scopeA), nil)
		if time.Since(last) > idle/2 {
			return errNotInUse
		}
		last = now
		time.Sleep(idle / 20)
	}
	if time.Since(last) > idle/2 {
		return errNotInUse
	}
	s.want(promiseIdle, err, nil, "Token of a partition in use")
	after, err := s.load(used)
	s.want(promiseIdle, err, nil, "Load of a partition in use")
	if s.caps.Toucher != nil && after.Version != before.Version {
		s.broken(promiseTouch, "the record was saved anew")
	}
	_, err = s.load(unused)
	s.want(promiseIdle, err, tokencache.ErrNotFound, "Load of a partition that nobody has used")
	time.Sleep(idle + idle/10 + s.slack())
	_, err = s.load(used)
	s.want(promiseIdle, err, tokencache.ErrNotFound, "Load of a partition that is no longer used")
	s.wantNone(promiseIdle, s.there, k, tokencache.ErrNoTokens)
	return nil
}
