// Package fleet runs several processes of one application, and kills them. They
// share a storage provider's backend and an authorization server whose refresh
// tokens are good once, and the tests count what happened where it cannot be
// embellished: at that server. It contains only tests.
//
// A process is the test binary, executed again, that its parent tells by lines of
// JSON what to do. It has a cache with keys and L1 over the provider, and a client
// of package xoauth2. All requests to the authorization server pass a tap in the
// parent, which knows what each process has asked and was answered.
//
// The tests know no backend by name: each runs once for every one of kinds.
// COATCHECK_STRESS=1 has them repeat more and kill more often.
package fleet
