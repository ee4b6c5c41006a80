package tokencache

import (
	"context"
	"slices"
	"sync"
	"time"
)

// An application's token is replaced ahead of its end behind the requests, which are
// answered with it meanwhile: all users wait for the same one, and nobody's refresh
// token is spent for it. It goes through the flight and the lease like any refresh, so
// that of all machines one asks the server.

const (
	// aheadLeast is how long a token must be valid still to be served instead of
	// waiting for a new one: who presents it needs a moment.
	aheadLeast = 30 * time.Second
	// aheadRest is the pause after a refresh ahead of time, which is no more urgent than
	// that: it may have failed, or the server has sent the same token again.
	aheadRest = 5 * time.Second
	// aheadMost bounds what is refreshed ahead, and what rests, at the same moment.
	aheadMost = 64
)

// ahead says until when what was begun is not begun again, by partition and request.
type ahead struct {
	mu    sync.Mutex
	until map[string]time.Time // zero while it runs
}

// begin tells whether to begin; the caller then calls end.
func (a *ahead) begin(id string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if until, ok := a.until[id]; ok && (until.IsZero() || now.Before(until)) {
		return false
	}
	if len(a.until) >= aheadMost {
		for other, until := range a.until {
			if !until.IsZero() && !now.Before(until) {
				delete(a.until, other)
			}
		}
		if len(a.until) >= aheadMost {
			return false
		}
	}
	if a.until == nil {
		a.until = make(map[string]time.Time)
	}
	a.until[id] = time.Time{}
	return true
}

func (a *ahead) end(id string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.until[id] = now.Add(aheadRest)
}

// lasts tells whether a stale token answers a request that nobody is to wait for.
func (p *Partition) lasts(req *Request, stale Token) bool {
	return p.key.application() && req.Refused == "" && time.Until(stale.Expires) > aheadLeast
}

// refreshAhead refreshes behind the request, unless somebody does.
func (p *Partition) refreshAhead(ctx context.Context, req Request, server Server) {
	name, err := p.storageName()
	if err != nil {
		return
	}
	id := name.Partition + flightID(&req)
	if !p.cache.ahead.begin(id, time.Now()) {
		return
	}
	if p.cache.begin() != nil {
		p.cache.ahead.end(id, time.Now())
		return
	}
	req.Scopes = slices.Clone(req.Scopes) // the caller's slice
	ctx = context.WithoutCancel(ctx)
	// Of its own, as the caller goes on with what it has.
	own := p.cache.Partition(p.key)
	go func() {
		defer p.cache.work.Done()
		began := time.Now()
		err := guarded(func() error {
			_, _, err := own.refresh(ctx, req, server, Token{})
			return err
		})
		p.cache.ahead.end(id, time.Now())
		p.tell(ctx, Event{Kind: EventUpkeep, Detail: detailRenewed, Duration: time.Since(began), Err: err})
	}()
}
