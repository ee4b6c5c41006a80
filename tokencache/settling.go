package tokencache

import (
	"context"
	"sync"
	"time"
)

// settling holds back whoever would spend a refresh token after the store may have
// failed over. What is stored may be older than what another machine has saved last,
// without anybody having heard of it: that machine must have had the time to store
// it again. It needs about as long for that as this one does for its own.
type settling struct {
	mu    sync.Mutex
	began time.Time
	until time.Time
	busy  bool // this machine stores its own again, so that until is not known
}

const (
	// settlingMost bounds it, for a store that hardly answers.
	settlingMost = 2 * time.Second
	settlingPoll = 10 * time.Millisecond
)

func (s *settling) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy {
		s.busy, s.began = true, time.Now()
		s.until = s.began.Add(settlingMost)
	}
}

// end is called when this machine has stored its own again, as far as it could.
func (s *settling) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.busy {
		s.busy = false
		s.until = earlier(s.until, now.Add(now.Sub(s.began)))
	}
}

// left is how long to wait before looking again, 0 if all is settled.
func (s *settling) left() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := max(0, time.Until(s.until))
	if s.busy {
		left = min(left, settlingPoll)
	}
	return left
}

// settle waits until all is settled, or ctx ends.
func (s *settling) settle(ctx context.Context) {
	for left := s.left(); left > 0 && ctx.Err() == nil; left = s.left() {
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
