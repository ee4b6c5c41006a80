package main

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestHub checks the bounds of the live view.
func TestHub(t *testing.T) {
	t.Parallel()
	h := newHub()
	var streams []*stream
	for range maxStreams {
		s, err := h.subscribe("ada", 1)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	if _, err := h.subscribe("ada", 1); err == nil {
		t.Error("a user may open any number of streams")
	}
	bob, err := h.subscribe("bob", 2)
	if err != nil {
		t.Fatal(err)
	}
	h.unsubscribe("ada", streams[0])
	h.unsubscribe("ada", streams[0]) // does nothing
	for range streamBuffer + 1 {
		h.publish("ada", event{})
	}
	got := 0
	for range streams[1].events { // ends: it was too slow, and was dropped
		got++
	}
	if got != streamBuffer {
		t.Errorf("got %d events, want %d", got, streamBuffer)
	}
	if len(bob.events) != 0 {
		t.Error("bob hears of ada")
	}
	ada, err := h.subscribe("ada", 1)
	if err != nil {
		t.Fatal(err)
	}
	h.broadcast(1, event{})
	if len(ada.events) != 1 || len(bob.events) != 0 {
		t.Error("what is for one node's pages reaches others, or not them")
	}
	h.close()
	if _, open := <-bob.events; open {
		t.Error("a stream outlives the hub")
	}
	if _, err := h.subscribe("bob", 2); err == nil {
		t.Error("a closed hub takes subscribers")
	}
}

// TestEvents checks that users hear of their own tokens only, on all nodes, of
// nothing that pages read for themselves, and that the streams end with the
// server.
func TestEvents(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login", "-nodes=2")...)
		ada, bob := s.signedIn(t, "ada"), s.signedIn(t, "bob")
		lines := ada.stream(t)
		bob.me(t)
		other := ada.at(s.nodes[1])
		for _, path := range []string{"/", "/tokens", "/api/cache"} {
			other.get(t, path).want(t, http.StatusOK, "")
		}
		other.me(t)
		other.expire(t)
		other.me(t)
		var got []string
		for _, e := range upTo(t, lines, tokencache.EventSave, 2) {
			if e.Node == 2 {
				got = append(got, strings.TrimSpace(string(e.Kind)+" "+e.Detail)+" "+e.Source)
			}
			if e.Text == "" || e.Error != "" || e.Request == "" && e.Kind != tokencache.EventInvalidation {
				t.Errorf("got %+v", e)
			}
		}
		want := []string{
			"hit l1",
			"save none", // without the access token
			"miss none none", "lease acquired none", "load provider", "refresh server", "save none",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error("node 2 (-want +got):", diff)
		}
		s.hub.close()
		for range lines { // ends
		}
	})
}

// upTo reads a stream up to the event of that kind that comes for the given time.
func upTo(t *testing.T, lines <-chan string, kind tokencache.EventKind, times int) (got []event) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("the stream ends after %+v", got)
			}
			e := decode[event](t, line)
			got = append(got, e)
			if e.Kind == kind {
				times--
			}
			if times == 0 {
				return got
			}
		case <-deadline:
			t.Fatalf("waited in vain for %s, after %+v", kind, got)
		}
	}
}

// TestOutageIsForTheNode: whoever looks at a node whose store is gone is told,
// and nobody of the others' tokens; and so is whoever runs it.
func TestOutageIsForTheNode(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login", "-nodes=2")
	ada, bob, carol := s.signedIn(t, "ada"), s.signedIn(t, "bob"), s.signedIn(t, "carol")
	here, there := ada.stream(t), bob.at(s.nodes[1]).stream(t)
	ada.me(t)
	upTo(t, here, tokencache.EventHit, 1)
	s.loseStore(t)
	for range 6 {
		carol.at(s.nodes[1]).get(t, "/api/me").want(t, http.StatusServiceUnavailable, "cache_unavailable")
	}
	for _, e := range upTo(t, there, tokencache.EventOutage, 1) {
		if e.Request != "" {
			t.Errorf("bob hears of carol: %+v", e)
		}
	}
	s.hub.close()
	for line := range here {
		if e := decode[event](t, line); e.Kind == tokencache.EventOutage && e.Node == 2 {
			t.Error("ada, at node 1, hears of node 2's outage")
		}
	}
	if logs := s.logs.String(); !strings.Contains(logs, `level=WARN msg="tokencache: outage" node=2 detail=began`) || strings.Contains(logs, "level=INFO") {
		t.Errorf("the log does not tell of it, or of more: %s", logs)
	}
}

// stream opens the user's event stream and returns its events once it is open.
func (v *visitor) stream(t *testing.T) <-chan string {
	t.Helper()
	resp, err := v.Do(v.request(t, http.MethodGet, "/events", nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("status %d, %s", resp.StatusCode, got)
	}
	body := bufio.NewReader(resp.Body)
	if first, err := body.ReadString('\n'); err != nil || first != "retry: 2000\n" {
		t.Fatalf("the stream begins with %q, %v", first, err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for {
			line, err := body.ReadString('\n')
			if err != nil {
				return
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				lines <- data
			}
		}
	}()
	return lines
}

// TestTooManyStreams checks what a user with too many pages is told.
func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.signedIn(t, "ada")
	for range maxStreams {
		v.stream(t)
	}
	v.get(t, "/events").want(t, http.StatusTooManyRequests, "too_many_streams")
	s.hub.close()
}
