package tokencache

import (
	"errors"
	"testing"
	"time"
)

// A downtime is as long as the server says, within bounds, and ends with its
// first answer. What else fails says nothing of the server.
func TestDowntime(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for after, want := range map[time.Duration]time.Duration{
		0: minDowntime, 5 * time.Second: 5 * time.Second, time.Hour: maxDowntime,
	} {
		var d downtime
		d.report(&ServerError{RetryAfter: after, Err: errors.New("503")}, now)
		d.report(ErrInvalidGrant, now)
		if !d.lasts(now.Add(want-1)) || d.lasts(now.Add(want)) {
			t.Errorf("told to wait for %v, it is not %v", after, want)
		}
		if d.report(nil, now); d.lasts(now) {
			t.Error("it lasts though the server has answered")
		}
	}
}
