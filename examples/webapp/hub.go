package main

import (
	"errors"
	"sync"
)

// hub passes events on to the streams of their user. Everything in it is
// bounded: a user's streams, and what a stream may be behind.
type hub struct {
	mu      sync.Mutex
	streams map[string]map[*stream]struct{} // by account
	closed  bool
}

type stream struct {
	node   int // whose page it is
	events chan event
}

const (
	maxStreams   = 8 // of one user
	streamBuffer = 256
)

var errTooManyStreams = errors.New("too many event streams of this user are open")

func newHub() *hub { return &hub{streams: map[string]map[*stream]struct{}{}} }

// publish tells a user's pages, on whatever node.
func (h *hub) publish(account string, e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams[account] {
		h.sendLocked(account, s, e)
	}
}

// broadcast tells the pages of one node, whoever's they are.
func (h *hub) broadcast(node int, e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for account, streams := range h.streams {
		for s := range streams {
			if s.node == node {
				h.sendLocked(account, s, e)
			}
		}
	}
}

// sendLocked never waits: it ends a stream that cannot keep up, and its page
// connects again.
func (h *hub) sendLocked(account string, s *stream, e event) {
	select {
	case s.events <- e:
	default:
		h.removeLocked(account, s)
	}
}

func (h *hub) subscribe(account string, node int) (*stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.streams[account]) >= maxStreams {
		return nil, errTooManyStreams
	}
	s := &stream{node: node, events: make(chan event, streamBuffer)}
	if h.streams[account] == nil {
		h.streams[account] = map[*stream]struct{}{}
	}
	h.streams[account][s] = struct{}{}
	return s, nil
}

func (h *hub) unsubscribe(account string, s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removeLocked(account, s)
}

// removeLocked ends a stream; a stream that has ended already is left alone.
func (h *hub) removeLocked(account string, s *stream) {
	if _, ok := h.streams[account][s]; !ok {
		return
	}
	delete(h.streams[account], s)
	if len(h.streams[account]) == 0 {
		delete(h.streams, account)
	}
	close(s.events)
}

// close ends every stream, so that the servers can shut down.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for account, streams := range h.streams {
		for s := range streams {
			h.removeLocked(account, s)
		}
	}
}
