// Package flows holds tests of every way to obtain tokens, on every provider: real
// clients on several machines, a real authorization server, real stores.
package flows
