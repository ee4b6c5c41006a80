package main

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestHub checks the bounds of the live view.
func TestHub(t *testing.T) {
	t.Parallel()
	h := newHub()
	var streams []*stream
	for range maxStreams {
		s, err := h.subscribe("ada")
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	if _, err := h.subscribe("ada"); err == nil {
		t.Error("a user may open any number of streams")
	}
	bob, err := h.subscribe("bob")
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
	h.close()
	if _, open := <-bob.events; open {
		t.Error("a stream outlives the hub")
	}
	if _, err := h.subscribe("bob"); err == nil {
		t.Error("a closed hub takes subscribers")
	}
}

// TestEvents checks that users hear of their own tokens only, on all nodes, and
// that the streams end with the server.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login", "-nodes=2")
	ada, bob := s.signedIn(t, "ada"), s.signedIn(t, "bob")
	lines := ada.stream(t)
	bob.me(t)
	other := ada.at(s.nodes[1])
	other.expire(t)
	other.me(t)
	want := []string{
		`"node":2,"what":"expired","source":"none"`,
		`"node":2,"what":"lookup","source":"none"`,
		`"node":2,"what":"refreshed","source":"server"`,
	}
	for _, w := range want {
		select {
		case line := <-lines:
			if !strings.Contains(line, w) {
				t.Errorf("got %s, want %s", line, w)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("waited in vain for %s", w)
		}
	}
	s.hub.close()
	for range lines { // ends
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
