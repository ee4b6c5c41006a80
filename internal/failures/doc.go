// Package failures has tests only: of what becomes of an application's requests
// when the token store that is behind its caches fails in ways that only a real
// server, a real driver and a real network have.
//
// Two machines serve some dozens of users while the store fails and recovers. The
// tests hold what the README's table of failures promises, and print what they
// have measured; docs/failures.md explains both.
package failures
