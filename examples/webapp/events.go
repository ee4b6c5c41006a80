package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// event is what a page is told of one access to the user's tokens: no token, and
// nothing that names the account.
type event struct {
	At      time.Time `json:"at"`
	Node    int       `json:"node"`
	What    string    `json:"what"`
	Source  string    `json:"source"`
	Millis  float64   `json:"ms"`
	Changed bool      `json:"changed"`
	Error   string    `json:"error,omitempty"`
}

// observe is the cache's AfterAccess hook. It makes an event of each access,
// except of reads that ask for no token: those are the pages that show the
// cache, which would fill the stream with themselves.
func (n *node) observe(_ context.Context, a *tokencache.Access) error {
	if a.Scopes == nil && !a.HasStateChanged && a.Err == nil {
		return nil
	}
	e := event{
		At: time.Now(), Node: n.number, What: whatHappened(a), Source: a.Source.String(),
		Millis: float64(a.Duration.Microseconds()) / 1000, Changed: a.HasStateChanged,
	}
	if a.Err != nil {
		e.Error = problemOf(a.Err).code
	}
	n.hub.publish(a.Account, e)
	return nil
}

func whatHappened(a *tokencache.Access) string {
	switch {
	case !a.HasStateChanged:
		return "lookup"
	case !a.HasTokens:
		return removed
	case a.Source != tokencache.SourceServer:
		return "expired"
	case a.Scopes == nil:
		return "signed in"
	}
	return "refreshed"
}

const (
	heartbeat     = 15 * time.Second
	streamTimeout = 10 * time.Minute // then the page connects again, and the session is looked at again
	writeTimeout  = 10 * time.Second
)

// removed is what happened when a partition was.
const removed = "removed"

// events streams the accesses to the user's tokens (server-sent events, HTML
// Living Standard §9.2).
func (n *node) events(w http.ResponseWriter, r *http.Request) {
	p, _ := n.cache.FromContext(r.Context()) // RequireTokens has seen it
	account := p.Key().Account()
	s, err := n.hub.subscribe(account)
	if err != nil {
		n.fail(w, r, err)
		return
	}
	defer n.hub.unsubscribe(account, s)
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // the server's would end the stream
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(text string) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := fmt.Fprint(w, text)
		return err == nil && rc.Flush() == nil
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	end := time.NewTimer(streamTimeout)
	defer end.Stop()
	for ok := send("retry: 2000\n\n"); ok; {
		select {
		case <-r.Context().Done():
			return
		case <-end.C:
			return
		case <-beat.C:
			ok = send(":\n\n")
		case e, open := <-s.events:
			if !open {
				return
			}
			data, _ := json.Marshal(e) // plain fields: cannot fail
			ok = send("data: " + string(data) + "\n\n")
			if e.What == removed {
				return // what comes next is another sign-in's
			}
		}
	}
}
