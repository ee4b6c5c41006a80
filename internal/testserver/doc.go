// Package testserver starts private servers for tests, benchmarks and child
// processes, and a proxy that misbehaves as told.
//
// Redis and PostgreSQL are there, each also as a primary with a copy that can take
// its place. On Linux there are also a Secret Service on a bus of its own, and what
// befalls files: a small disk, one that can only be read, another user.
//
// A server listens on a free port of 127.0.0.1 and keeps what it writes in a
// directory of its own. It ends with Close, and on Linux also when the process
// that started it ends in any way. Nothing is shared between two servers.
//
// The functions named New are for tests: they close the server when the test
// ends, and skip the test where the program is not installed, unless the
// environment variable COATCHECK_REQUIRE_SERVERS is set. Those named Start work
// anywhere; where the program is not installed, their error is
// [exec.ErrNotFound].
package testserver
