package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestEveryKindHasWords reads the kinds, and the details that their comments
// name, from the source of the cache: one that is added there needs words here.
func TestEveryKindHasWords(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../tokencache/events.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`(?s)\t// Event\w+: ((?:[^\n]*\n\t// )*[^\n]*)\n\tEvent\w+ +EventKind = "([\w-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(kinds) != len(wording) {
		t.Fatalf("found %d kinds in the source, and %d have words", len(kinds), len(wording))
	}
	for _, kind := range kinds {
		e := tokencache.Event{Kind: tokencache.EventKind(kind[2])}
		_, details, _ := strings.Cut(kind[1], "Detail:")
		for _, detail := range append(regexp.MustCompile(`"([a-z]+)"`).FindAllStringSubmatch(details, -1), []string{"", ""}) {
			e.Detail = detail[1]
			if e.Detail == "" && (details != "" || e.Kind == tokencache.EventHit) {
				continue // it always has one; a hit has a source
			}
			if got := wordsFor(e); strings.HasPrefix(got, kind[2]) {
				t.Errorf("%s has no words for %q", e.Kind, e.Detail)
			}
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	tests := []struct {
		event tokencache.Event
		want  string
	}{
		{tokencache.Event{Kind: tokencache.EventHit, Source: tokencache.SourceProvider}, "Token found in the provider"},
		{tokencache.Event{Kind: tokencache.EventWait, Detail: "lease"}, "Waited for another node"},
		{tokencache.Event{Kind: tokencache.EventRefresh, Source: tokencache.SourceServer}, "Refreshed at the identity server"},
		{tokencache.Event{Kind: tokencache.EventRefresh, Err: tokencache.ErrInvalidGrant}, "Not refreshed"},
		{tokencache.Event{Kind: tokencache.EventUnreadable, Detail: "unknown key"}, "The stored record cannot be read: unknown key"},
		{tokencache.Event{Kind: "later", Detail: "perhaps"}, "later: perhaps"},
		{tokencache.Event{Kind: "later"}, "later"},
	}
	for _, test := range tests {
		if got := wordsFor(test.event); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.event, got, test.want)
		}
	}
}

// TestObserve checks who is told of an event, and how its error is named.
func TestObserve(t *testing.T) {
	t.Parallel()
	var logs buffer
	n := &node{app: &app{hub: newHub()}, number: 1, logEvent: tokencache.LogEvents(slog.New(slog.NewTextHandler(&logs, nil)))}
	ada, err := n.hub.subscribe("ada", 2)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := n.hub.subscribe("bob", 1)
	if err != nil {
		t.Fatal(err)
	}
	adas, outage := tokencache.AccountKey("ada"), errors.Join(tokencache.ErrUnavailable, errors.New("dial 10.0.0.1"))
	tests := map[string]struct {
		ctx   context.Context
		event tokencache.Event
		to    *stream // nobody's if nil
		code  string
	}{
		"a user's":                 {event: tokencache.Event{Kind: tokencache.EventHit, Key: adas}, to: ada},
		"a user's other partition": {event: tokencache.Event{Kind: tokencache.EventSave, Key: tokencache.SessionKey("ada", "job")}, to: ada},
		"the application's":        {event: tokencache.Event{Kind: tokencache.EventHit, Key: tokencache.ApplicationKey("", "r")}},
		"the node's":               {event: tokencache.Event{Kind: tokencache.EventOutage, Detail: "began"}, to: bob},
		"quiet hit":                {ctx: quiet(t.Context()), event: tokencache.Event{Kind: tokencache.EventHit, Key: adas}},
		"quiet load":               {ctx: quiet(t.Context()), event: tokencache.Event{Kind: tokencache.EventLoad, Key: adas, Err: tokencache.ErrNoTokens}},
		"quiet load that failed":   {ctx: quiet(t.Context()), event: tokencache.Event{Kind: tokencache.EventLoad, Key: adas, Err: outage}, to: ada, code: "cache_unavailable"},
		"quiet unreadable":         {ctx: quiet(t.Context()), event: tokencache.Event{Kind: tokencache.EventUnreadable, Key: adas, Err: tokencache.ErrUnreadable}, to: ada, code: "unreadable"},
		"quiet save":               {ctx: quiet(t.Context()), event: tokencache.Event{Kind: tokencache.EventSave, Key: adas}, to: ada},
		"conflict":                 {event: tokencache.Event{Kind: tokencache.EventSave, Key: adas, Err: tokencache.ErrConflict}, to: ada, code: "conflict"},
		"removed":                  {event: tokencache.Event{Kind: tokencache.EventSave, Key: adas, Err: tokencache.ErrRemoved}, to: ada, code: "removed"},
		"too large":                {event: tokencache.Event{Kind: tokencache.EventSave, Key: adas, Err: tokencache.ErrTooLarge}, to: ada, code: "too_large"},
		"refused":                  {event: tokencache.Event{Kind: tokencache.EventRefresh, Key: adas, Err: tokencache.ErrInvalidGrant}, to: ada, code: "sign_in_required"},
		"server down":              {event: tokencache.Event{Kind: tokencache.EventRefresh, Key: adas, Err: &tokencache.ServerError{}}, to: ada, code: "identity_server_unavailable"},
	}
	for name, test := range tests {
		ctx := test.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		n.observe(ctx, test.event)
		for _, s := range []*stream{ada, bob} {
			if got := len(s.events) > 0; got != (s == test.to) {
				t.Errorf("%s: whoever is at node %d is told: %t", name, s.node, got)
			}
			if s == test.to && len(s.events) > 0 {
				if got := <-s.events; got.Error != test.code || got.Kind != test.event.Kind || got.Node != 1 {
					t.Errorf("%s: got %+v", name, got)
				}
			}
		}
	}
	if got := logs.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "tokencache: unreadable") {
		t.Errorf("the log does not tell of the unreadable record: %s", got)
	}
}

// TestWritten: what waits is written at once, up to what may end the stream.
func TestWritten(t *testing.T) {
	t.Parallel()
	for _, stop := range []tokencache.EventKind{tokencache.EventSignOut, tokencache.EventInvalidation, tokencache.EventSignIn, tokencache.EventMiss} {
		more := make(chan event, 9)
		for _, kind := range []tokencache.EventKind{tokencache.EventSave, stop, tokencache.EventRefresh} {
			more <- event{Kind: kind}
		}
		text, last := written(event{Kind: tokencache.EventLoad}, more)
		if last.Kind != stop || strings.Count(text, "data: {") != 3 || strings.Count(text, "}\n\n") != 3 || strings.Contains(text, `"refresh"`) {
			t.Errorf("%s: got %s, %s", stop, last.Kind, text)
		}
		text, last = written(event{Kind: tokencache.EventLoad}, more)
		if last.Kind != tokencache.EventRefresh || !strings.Contains(text, `"refresh"`) {
			t.Errorf("%s: got %s, %s", stop, last.Kind, text)
		}
		close(more)
		if text, last = written(event{Kind: tokencache.EventLoad}, more); last.Kind != tokencache.EventLoad || strings.Count(text, "data: {") != 1 {
			t.Errorf("closed: got %s, %s", last.Kind, text)
		}
	}
	for source, ends := range map[string]bool{"l1": false, "provider": true} {
		more := make(chan event, 9)
		more <- event{Kind: tokencache.EventRefresh}
		if text, _ := written(event{Kind: tokencache.EventHit, Source: source}, more); strings.Contains(text, `"refresh"`) == ends {
			t.Errorf("a hit in %s: got %s", source, text)
		}
	}
}

// TestParting: a stream whose sign-in has ended tells of the sign-out, and of
// nothing else.
func TestParting(t *testing.T) {
	t.Parallel()
	more := make(chan event, 9)
	more <- event{Kind: tokencache.EventSignIn}
	more <- event{Kind: tokencache.EventSignOut}
	more <- event{Kind: tokencache.EventSignIn}
	if got := parting(more); strings.Count(got, "data: {") != 1 || !strings.Contains(got, `"sign-out"`) {
		t.Errorf("got %s", got)
	}
	if got := parting(more); got != "" {
		t.Errorf("without a sign-out, got %s", got)
	}
	close(more)
	if got := parting(more); got != "" {
		t.Errorf("closed, got %s", got)
	}
}
