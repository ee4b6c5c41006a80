package idp_test

import (
	"testing"
	"time"
)

// TestLastRequest: whatever is asked for counts, and so does the start.
func TestLastRequest(t *testing.T) {
	t.Parallel()
	before := time.Now()
	s := listen(t, nil)
	started := s.LastRequest()
	if started.Before(before) || started.After(time.Now()) {
		t.Errorf("started at %v", started)
	}
	time.Sleep(2 * time.Millisecond)
	get(t, s.URL()+"/nothing")
	if !s.LastRequest().After(started) {
		t.Error("a request does not count")
	}
}
