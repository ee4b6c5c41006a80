package providertest

import (
	"slices"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// RunCache runs the suite of what a [tokencache.Cache] promises on top of the
// provider: two machines, each with a Cache that seals and keeps copies, share
// users, and an authorization server that takes a refresh token once. It is for
// a provider that passes [Run], with the same harness: Peer is the other
// machine's provider. Without Peer both caches stand in front of one.
//
// Each test is a parallel subtest on a store of its own, named Group/Test, such as
// Leaser/RefreshOnce. What needs a capability that is not offered is skipped. A
// failure quotes the sentence of package tokencache that does not hold.
//
// The caches draw their keys, and encrypt also in front of a provider that is
// in-process. Everything secret that they store begins with "marker-", so that the
// output of tests, or a backend, can be searched for it.
func RunCache(t *testing.T, h Harness) {
	t.Helper()
	groups := cacheGroups()
	for _, g := range groups {
		for i := range g.tests {
			g.tests[i].run = repeated(g.tests[i].run)
		}
	}
	h.run(t, groups)
}

// repeated repeats a test where there are outages, so that a short one meets some.
func repeated(run func(*env)) func(*env) {
	return func(e *env) {
		for end := time.Now().Add(3 * e.expiry); ; {
			e.closing(run)
			if !e.outages || e.Failed() || time.Now().After(end) {
				return
			}
			time.Sleep(e.expiry / 2) // in a bubble, all else may take no time
		}
	}
}

// closing runs a test, and closes the caches that it has started.
func (e *env) closing(run func(*env)) {
	e.Helper()
	round := *e
	defer func() {
		for _, s := range slices.Backward(round.closers) {
			s()
		}
	}()
	run(&round)
}

// cacheGroups returns the tests of RunCache. Those of optional parts are named
// after the field of Capabilities.
func cacheGroups() []group {
	type caps = tokencache.Capabilities
	return []group{
		{name: "Tokens", tests: cacheTokenTests()},
		{name: "SignOut", tests: cacheSignOutTests()},
		{name: "Sealing", tests: cacheSealingTests()},
		{name: "Upkeep", tests: cacheUpkeepTests()},
		{name: "Leaser", offered: func(c caps) bool { return c.Leaser != nil }, tests: cacheLeaseTests()},
		{name: "Owners", offered: func(c caps) bool { return c.Owners != nil }, tests: cacheOwnerTests()},
		{name: "Watcher", offered: func(c caps) bool { return c.Watcher != nil }, tests: cacheWatchTests()},
		{name: "Local", offered: func(c caps) bool { return c.Local }, tests: cacheLocalTests()},
	}
}
