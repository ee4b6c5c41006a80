package tokencache

import (
	"errors"
	"sync/atomic"
	"time"
)

// downtime is until when the authorization server is taken to be down, after it
// did not answer somebody. Whoever still has a valid token is served that
// meanwhile, instead of waiting for a server that hangs, once for each token of
// each request. Whoever has none asks all the same.
type downtime struct {
	until atomic.Int64 // nanoseconds since 1970
}

// Bounds of a downtime, whatever Retry-After says.
const (
	minDowntime = time.Second
	maxDowntime = 30 * time.Second
)

// report takes the outcome of a request to the server.
func (d *downtime) report(err error, now time.Time) {
	var down *ServerError
	switch {
	case err == nil:
		d.until.Store(0)
	case errors.As(err, &down):
		d.until.Store(now.Add(min(max(down.RetryAfter, minDowntime), maxDowntime)).UnixNano())
	}
}

// lasts tells whether the server is taken to be down.
func (d *downtime) lasts(now time.Time) bool { return now.UnixNano() < d.until.Load() }
