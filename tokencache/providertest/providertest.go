// Package providertest holds storage providers to the contract of
// [tokencache.Provider]. A provider's own test is one call:
//
//	func TestConformance(t *testing.T) {
//		providertest.Run(t, providertest.Harness{
//			New: func(t *testing.T) tokencache.Provider { … },
//		})
//	}
//
// A failure quotes the sentence of the contract that was broken. What a
// provider does not offer in its [tokencache.Capabilities] is skipped, by name;
// everything it offers is tested.
//
// [RunCache], with the same harness, tests what applications rely on: the
// promises that a [tokencache.Cache] makes in front of the provider.
//
// [Faults] is a provider for the tests of applications: it stands in front of
// another one, and is down, slow or forgetful as told.
//
// The suite needs the standard library, tokencache, and porcupine, which checks
// the histories of concurrent calls.
package providertest

import (
	"context"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Harness tells the suite how to make the provider under test. Only New is
// required.
type Harness struct {
	// New returns a provider over a fresh, empty store and releases it with
	// t.Cleanup. It is called once for each test, by several tests at once.
	// Stores may share a server if they have prefixes or schemas of their own.
	New func(t *testing.T) tokencache.Provider

	// Peer returns a second provider over the store of first, as another
	// machine would have: its own value, and its own connection where there is
	// one. Defaults to first itself, for stores that one value alone can reach.
	Peer func(t *testing.T, first tokencache.Provider) tokencache.Provider

	// Around runs the body of one test. Defaults to calling it, so that time is
	// real and the tests wait for things to expire. A provider that lives in
	// this process passes synctest.Test: its clock then jumps. New and Peer are
	// called inside.
	Around func(t *testing.T, test func(t *testing.T))

	// Expiry is the life of records, marks and leases that a test waits out. It
	// must be well above the backend's precision and a few round trips to it.
	// Defaults to 300 ms.
	Expiry time.Duration

	// Outages tells that the backend is down now and then while the tests run, as
	// one that is killed and started again, and loses nothing that it has
	// acknowledged. RunCache then repeats what ends with tokencache.ErrUnavailable
	// or tokencache.ErrBusy, each time for up to 45 seconds, and waits as long for
	// what was not stored at once; everything else is held to the promises as ever.
	// It also repeats its shorter tests, so that they meet outages. New and Peer must bear with the outages themselves. An outage must not
	// last longer than Expiry. Run takes no notice: it needs a provider that
	// repeats its calls.
	Outages bool

	// adjust changes the options of the caches of RunCache, for tests of this package.
	adjust func(*tokencache.Options)
}

const defaultExpiry = 300 * time.Millisecond

func (h Harness) withDefaults(t *testing.T) Harness {
	t.Helper()
	if h.New == nil {
		t.Fatal("providertest: Harness.New is required")
	}
	if h.Peer == nil {
		h.Peer = func(_ *testing.T, first tokencache.Provider) tokencache.Provider { return first }
	}
	if h.Around == nil {
		h.Around = func(t *testing.T, test func(t *testing.T)) {
			t.Helper()
			test(t)
		}
	}
	if h.Expiry < 0 {
		t.Fatal("providertest: Harness.Expiry must not be negative")
	}
	if h.Expiry == 0 {
		h.Expiry = defaultExpiry
	}
	return h
}

// Run runs the suite, each test in a parallel subtest on a provider of its own.
// Subtests are named Group/Test, such as Conditions/Table.
func Run(t *testing.T, h Harness) {
	t.Helper()
	h.run(t, groups())
}

func (h Harness) run(t *testing.T, groups []group) {
	t.Helper()
	h = h.withDefaults(t)
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range g.tests {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					h.Around(t, func(t *testing.T) { h.runOne(t, g, c) })
				})
			}
		})
	}
}

func (h Harness) runOne(t *testing.T, g group, c testCase) {
	t.Helper()
	p := h.New(t)
	caps := p.Capabilities()
	// Asked before Peer, which may cost a connection.
	if g.offered != nil && !g.offered(caps) {
		t.Skipf("the provider does not offer Capabilities.%s", g.name)
	}
	c.run(&env{
		T: t, ctx: t.Context(), expiry: h.Expiry, outages: h.Outages, adjust: h.adjust,
		p: p, caps: caps, peer: h.Peer(t, p),
	})
}

// group is the tests of one part of the contract.
type group struct {
	name string
	// offered tells whether the provider offers that part; nil: it must.
	offered func(tokencache.Capabilities) bool
	tests   []testCase
}

type testCase struct {
	name string
	run  func(e *env)
}

// groups returns everything there is; a function, as the package has no state.
// Groups of optional parts are named after the field of Capabilities.
func groups() []group {
	type caps = tokencache.Capabilities
	return []group{
		{name: "Basic", tests: basicTests()},
		{name: "Values", tests: valueTests()},
		{name: "Conditions", tests: conditionTests()},
		{name: "Expiry", tests: expiryTests()},
		{name: "Context", tests: contextTests()},
		{name: "Concurrency", tests: concurrencyTests()},
		{name: "Owners", offered: func(c caps) bool { return c.Owners != nil }, tests: ownerTests()},
		{name: "Leaser", offered: func(c caps) bool { return c.Leaser != nil }, tests: leaseTests()},
		{name: "Toucher", offered: func(c caps) bool { return c.Toucher != nil }, tests: touchTests()},
		{name: "Watcher", offered: func(c caps) bool { return c.Watcher != nil }, tests: watchTests()},
		{name: "Sweeper", offered: func(c caps) bool { return c.Sweeper != nil }, tests: sweepTests()},
		{name: "Pinger", offered: func(c caps) bool { return c.Pinger != nil }, tests: pingTests()},
		{name: "Lister", offered: func(c caps) bool { return c.Lister != nil }, tests: listerTests()},
	}
}

// env is what one test works with.
type env struct {
	*testing.T
	ctx context.Context
	// p is the provider, and peer another one over the same store.
	p, peer tokencache.Provider
	caps    tokencache.Capabilities
	expiry  time.Duration
	// outages and adjust are the harness's.
	outages bool
	adjust  func(*tokencache.Options)
	closers []func() // at the end of a test of RunCache
}
