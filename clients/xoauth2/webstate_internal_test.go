package xoauth2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func newBegun(started time.Time, name string) *begun {
	s := SignIn{&pending{Issuer: "https://issuer.test", State: random(), Nonce: random(), Verifier: random(), Started: started.Unix()}}
	return &begun{SignIn: s.Encode(), ReturnTo: "/" + name}
}

// What is in a session ends, with its time or with its number.
func TestStateEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := &webState{}
		st.begin(newBegun(time.Now(), "first"))
		st.keep(step{Ref: "a", Need: "a", At: time.Now().Unix()})
		st.met("same")
		for _, s := range []struct {
			after             time.Duration
			begun, kept, tell int
		}{{4 * time.Minute, 1, 1, 1}, {2 * time.Minute, 1, 1, 0}, {10 * time.Minute, 0, 1, 0}, {45 * time.Minute, 0, 0, 0}} {
			time.Sleep(s.after)
			st.prune()
			if len(st.Begun) != s.begun || len(st.Steps) != s.kept || len(st.Met) != s.tell || st.mayStep("same") != (s.tell == 0) {
				t.Errorf("after %s: %+v", s.after, st)
			}
		}
		for i := range 2 * maxSteps {
			if st.mayStep(fmt.Sprint(i)) != (i < maxSteps) {
				t.Errorf("step %d", i)
			}
			st.met(fmt.Sprint(i))
			st.begin(newBegun(time.Now(), fmt.Sprint(i)))
			st.keep(step{Ref: fmt.Sprint(i), Need: fmt.Sprint("kept", i), At: time.Now().Unix()})
		}
		if len(st.Met) != maxSteps || len(st.Begun) != maxBegun || len(st.Steps) != maxSteps || st.Begun[0].ReturnTo != "/5" {
			t.Errorf("got %+v", st)
		}
		st.met("") // a plain sign-in
		if len(st.Met) != maxSteps || st.Met[maxSteps-1].Need != "9" {
			t.Errorf("a plain sign-in counts as a step: %+v", st.Met)
		}
	})
}

// A state is found once, and an empty one never.
func TestStateTake(t *testing.T) {
	t.Parallel()
	st := &webState{Begun: []begun{{SignIn: "garbage"}, {}, *newBegun(time.Now(), "a"), *newBegun(time.Now(), "b")}}
	s, err := ParseSignIn(st.Begun[3].SignIn)
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"", "x", s.pending.State + "x", s.pending.Nonce} {
		if b, _ := st.take(state); b != nil {
			t.Errorf("%q is found", state)
		}
	}
	b, got := st.take(s.pending.State)
	if b == nil || b.ReturnTo != "/b" || got.pending.Verifier != s.pending.Verifier {
		t.Errorf("got %+v", b)
	}
	if b, _ := st.take(s.pending.State); b != nil {
		t.Error("it is found twice")
	}
}

// Nothing that is in a session is secret in print, nor does garbage do harm.
func TestStateGarbage(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "null", "[]", `{"begun":[null,{"signin":7}]}`, `{"met":[{}],"steps":[{}],"begun":[{}]}`} {
		st := &webState{}
		_ = json.Unmarshal([]byte(text), st)
		st.prune()
		if len(st.Begun)+len(st.Steps)+len(st.Met) > 0 || !st.mayStep("x") {
			t.Errorf("%q becomes %+v", text, st)
		}
	}
}

// The turn of a session is waited for as long as the request lasts.
func TestTurns(t *testing.T) {
	t.Parallel()
	turns := newTurns()
	leave, err := turns.enter(t.Context(), "session")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := turns.enter(ctx, "session"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := turns.enter(ctx, ""); err != nil {
		t.Error("a new session waits:", err)
	}
	leave()
	if _, err := turns.enter(t.Context(), "session"); err != nil {
		t.Error(err)
	}
}

// What the default Fail makes of errors.
func TestFailure(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err    error
		status int
		code   string
	}{
		"request":     {ErrRequest, 400, "bad_request"},
		"denied":      {ErrDenied, 403, "access_denied"},
		"other user":  {fmt.Errorf("x: %w", ErrOtherUser), 403, "other_user"},
		"callback":    {badCallback("x"), 400, "sign_in_failed"},
		"ID token":    {badIDToken("x"), 400, "sign_in_failed"},
		"interaction": {&tokencache.InteractionRequiredError{}, 403, "interaction_required"},
		"protocol":    {&ProtocolError{Code: "invalid_client"}, 502, "server_refused"},
		"sessions":    {sessionFailed(errors.New("x")), 503, "temporarily_unavailable"},
		"store":       {tokencache.ErrUnavailable, 503, "temporarily_unavailable"},
		"server":      {&tokencache.ServerError{Err: errors.New("x")}, 503, "temporarily_unavailable"},
		"gone":        {context.Canceled, 503, "temporarily_unavailable"},
	}
	for name, test := range tests {
		if status, code, text := failure(test.err); status != test.status || code != test.code || text == "" {
			t.Errorf("%s: %d %s %q", name, status, code, text)
		}
	}
}

// The clock of another machine was far ahead. What it has noted does not keep the user
// from a step for as long as that.
func TestStateOfAnotherClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := func(ahead time.Duration) int64 { return time.Now().Add(ahead).Unix() }
		st := &webState{
			Begun: []begun{*newBegun(time.Now().Add(24*time.Hour), "far"), *newBegun(time.Now().Add(time.Minute), "near")},
			Steps: []step{{Ref: "far", At: at(24 * time.Hour)}, {Ref: "near", At: at(time.Minute)}},
			Met:   []taken{{"far", at(24 * time.Hour)}, {"near", at(time.Minute)}},
		}
		st.prune()
		if len(st.Begun) != 1 || len(st.Steps) != 1 || len(st.Met) != 1 || !st.mayStep("far") || st.mayStep("near") {
			t.Errorf("left: %d begun, %d steps, %+v met", len(st.Begun), len(st.Steps), st.Met)
		}
	})
}

// What is in a session has an end, whatever scopes and claims are made of, and a step
// that was begun can be completed.
func TestStateSize(t *testing.T) {
	t.Parallel()
	long := "/" + strings.Repeat("r", maxReturnTo-1)
	for _, text := range []string{"a", "<", `\"`, "\u2028", "\xff"} {
		st := &webState{}
		for i := range 2 * maxBegun {
			claims := fmt.Sprintf(`{"%d%s":1}`, i, strings.Repeat(text, (maxNeed-10)/len(text)))
			s, ok := newStep(&tokencache.InteractionRequiredError{Claims: claims}, strings.Repeat("s", 255))
			if ok != (text != "\xff") {
				t.Fatalf("claims of %q: %v", text, ok)
			}
			if ok {
				s.ReturnTo = long
				st.keep(s)
			}
			b := newBegun(time.Now(), "")
			p, err := ParseSignIn(b.SignIn)
			if err != nil {
				t.Fatal(err)
			}
			p.pending.Scopes = []string{strings.Repeat("<", maxNeed)}
			b.SignIn, b.ReturnTo = p.Encode(), long
			st.begin(b)
		}
		if n := len(plainJSON(st)); n > 100<<10 {
			t.Errorf("claims of %q: %d bytes", text, n)
		}
		if st.prune(); len(st.Begun) != maxBegun {
			t.Errorf("%d sign-ins can be completed, want %d", len(st.Begun), maxBegun)
		}
	}
}
