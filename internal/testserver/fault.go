package testserver

import "time"

// Fault is how a [Proxy] misbehaves. The zero value is not at all. Faults may be
// combined where that makes sense, such as Chunk with Delay; otherwise the first
// one in the order below wins.
type Fault struct {
	// Cut closes all connections and the port, so that new ones are refused.
	Cut bool

	// HalfOpen makes the connections that exist silent for ever, as when a
	// firewall has forgotten them: what either side sends is swallowed, nothing
	// is closed, and healing does not help. Connections made later work.
	HalfOpen bool

	// Hang forwards nothing in either direction, and does not tell one side that
	// the other has closed. New connections are accepted and reach the server
	// later. What is held goes on when the proxy heals.
	Hang bool

	// DropReplies lets requests reach the server, and resets the connection
	// instead of forwarding an answer.
	DropReplies bool

	// ResetAfter resets a connection when that many bytes of the server's answers
	// have reached the client since Set. 0 is never.
	ResetAfter int

	// Times is how many connections DropReplies or ResetAfter may end; then the
	// proxy heals by itself. 0 is any number.
	Times int

	// Delay holds each piece of data, in each direction, for so long, and Jitter
	// for up to so much longer. Pieces stay in order. New connections reach the
	// server later by as much.
	Delay, Jitter time.Duration

	// Chunk is the size of the largest piece, in bytes. 0 is no limit.
	Chunk int
}
