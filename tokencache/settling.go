package tokencache

import (
	"context"
	"sync"
	"time"
)

// settling holds back whoever would spend a refresh token after the store may have
// failed over. What is stored may be older than what another machine has saved last,
// without anybody having heard of it: that machine should have had the time to store
// it again. How long that takes is a guess: as long again as this one needs for its own.
type settling struct {
	mu    sync.Mutex
	began time.Time
	until time.Time
	round uint64 // of the journal
	busy  bool   // this machine stores its own again, so that until is not known
}

const (
	// settlingMost bounds it, for a store that hardly answers.
	settlingMost = 2 * time.Second
	settlingPoll = 10 * time.Millisecond
)

// begin is called when the round begins.
func (s *settling) begin(round uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy, s.round, s.began = true, round, time.Now()
	s.until = s.began.Add(settlingMost)
}

// end is called when this machine has stored again, as far as it could, what it looked
// for in the round.
func (s *settling) end(round uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy || round < s.round {
		return
	}
	s.busy = false
	now := time.Now()
	if until := now.Add(now.Sub(s.began)); until.Before(s.until) {
		s.until = until
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

// settle waits until all is settled, for settlingMost at most, or until ctx ends.
func (s *settling) settle(ctx context.Context) {
	if s.left() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settlingMost)
	defer cancel()
	for left := s.left(); left > 0 && ctx.Err() == nil; left = s.left() {
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}
