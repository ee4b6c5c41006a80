package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// event is what a page is told of one thing that happened to the user's tokens:
// no token, and nothing that names the account.
type event struct {
	At     time.Time            `json:"at"`
	Node   int                  `json:"node"`
	Kind   tokencache.EventKind `json:"kind"`
	Detail string               `json:"detail,omitempty"`
	Text   string               `json:"text"` // the same, for people
	Source string               `json:"source"`
	Millis float64              `json:"ms"`
	Error  string               `json:"error,omitempty"`
	// Request is the same for all that one request caused, and in the log.
	Request string `json:"request,omitempty"`
}

// observe takes the events of the cache, and passes them on to the pages of
// their user. Events about nobody, such as an outage, are for all of the node.
func (n *node) observe(ctx context.Context, e tokencache.Event) {
	n.logEvent(ctx, e)
	if isQuiet(ctx) && isRead(e) {
		return
	}
	told := event{
		At: time.Now(), Node: n.number, Kind: e.Kind, Detail: e.Detail, Text: wordsFor(e),
		Source: e.Source.String(), Millis: float64(e.Duration.Microseconds()) / 1000,
		Error: codeOf(e.Err), Request: e.CorrelationID,
	}
	if e.Key == (tokencache.Key{}) {
		n.hub.broadcast(n.number, told)
		return
	}
	n.hub.publish(e.Key.Account(), told)
}

// codeOf is the short name of an error, "" for none.
func codeOf(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, tokencache.ErrConflict):
		return "conflict"
	case errors.Is(err, tokencache.ErrTooLarge):
		return "too_large"
	case errors.Is(err, tokencache.ErrRemoved):
		return "removed"
	case errors.Is(err, tokencache.ErrUnreadable):
		return "unreadable"
	}
	return problemOf(err).code
}

type quietKey struct{}

// quiet marks a context whose reads of the cache are this app's own, such as
// those of the page that shows the cache. They would fill the stream with
// themselves.
func quiet(ctx context.Context) context.Context {
	return context.WithValue(ctx, quietKey{}, true)
}

func isQuiet(ctx context.Context) bool { return ctx.Value(quietKey{}) != nil }

// quietly is quiet for all that a handler does.
func quietly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(quiet(r.Context())))
	})
}

// isRead tells of an event that changes nothing, and that went as it should.
func isRead(e tokencache.Event) bool {
	return e.Kind == tokencache.EventHit || e.Kind == tokencache.EventLoad && !errors.Is(e.Err, tokencache.ErrUnavailable)
}

const (
	heartbeat     = 15 * time.Second
	streamTimeout = 10 * time.Minute // then the page connects again, and the session is looked at again
	writeTimeout  = 10 * time.Second
	// partingTimeout is longer than a sign-out takes to end that has removed the
	// tokens, but for one that has to tell a server which does not answer.
	partingTimeout = time.Second
)

// events streams what happens to the user's tokens (server-sent events, HTML
// Living Standard §9.2).
func (n *node) events(w http.ResponseWriter, r *http.Request) {
	p, _ := n.cache.FromContext(r.Context()) // RequireTokens has seen it
	account := p.Key().Account()
	s, err := n.hub.subscribe(account, n.number)
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
			text, last := written(e, s.events)
			over := mayBeOver(last) && n.signedOut(r.Context(), p)
			if over && last.Kind != tokencache.EventInvalidation {
				text = "" // it is of the next sign-in
			}
			ok = send(text) && last.Kind != tokencache.EventSignOut
			if ok && over {
				send(parting(s.events))
				return
			}
		}
	}
}

// mayBeOver tells of an event after which to look whether the sign-in has ended:
// an invalidation, which may come of a sign-out at another process, and what comes
// of the next sign-in here. That can be faster than the former where processes do
// not hear of each other at once. (What a load has brought is known a moment after
// the load is told, when a token was found in it, or none.)
func mayBeOver(e event) bool {
	switch e.Kind {
	case tokencache.EventInvalidation, tokencache.EventSignIn, tokencache.EventMiss:
		return true
	case tokencache.EventHit:
		return e.Source == tokencache.SourceProvider.String()
	}
	return false
}

// signedOut tells whether the user's sign-in has ended, perhaps at another
// process. An outage tells nothing.
func (n *node) signedOut(ctx context.Context, p *tokencache.Partition) bool {
	fresh := n.cache.Partition(p.Key()) // which remembers nothing of before
	return errors.Is(fresh.Check(ctx), tokencache.ErrNoTokens)
}

// parting waits a moment for the event of a sign-out: it is there if that was at
// this process. Whatever else comes may be of another sign-in.
func parting(more <-chan event) string {
	wait := time.NewTimer(partingTimeout)
	defer wait.Stop()
	for {
		select {
		case e, open := <-more:
			if !open {
				return ""
			}
			if e.Kind == tokencache.EventSignOut {
				return line(e)
			}
		case <-wait.C:
			return ""
		}
	}
}

func line(e event) string {
	data, _ := json.Marshal(e) // plain fields: cannot fail
	return "data: " + string(data) + "\n\n"
}

// written is the event, and those that wait behind it: a crowd is told of at
// once. It returns the last of them as well, after which there may be no more to
// tell: a sign-out, or what [mayBeOver]. What comes next may be another sign-in's;
// and if signing out has failed, the page connects again, and the session is looked
// at again.
func written(e event, more <-chan event) (text string, last event) {
	var b strings.Builder
	for {
		b.WriteString(line(e))
		if e.Kind == tokencache.EventSignOut || mayBeOver(e) {
			return b.String(), e
		}
		select {
		case next, open := <-more:
			if !open {
				return b.String(), e // the next one finds it closed too
			}
			e = next
		default:
			return b.String(), e
		}
	}
}
