package fleet

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// Four processes with a hundred requests each ask for the token of one user,
// which has expired, at the same moment. The server allows no refresh token to be
// used twice. It is asked once, and everybody gets that one token.
func TestCrowdOfProcesses(t *testing.T) {
	everyBackend(t, false, func(t *testing.T, s service) {
		const processes = 4
		w := newWorld(t, s)
		u := w.signIn(t, "crowd", 1)[0]
		fleet := w.fleet(processes, nil)
		var slowest time.Duration
		rounds := times(5, 200)
		for round := range rounds {
			w.expire(t, u)
			if round > 0 { // the first time, they have no copies; later, they have seen that it expired
				for _, p := range fleet {
					eventually(t, func() error { return p.wantPeek(u, "no tokens") })
				}
			}
			slowest = max(slowest, w.crowd(t, fleet, u))
		}
		t.Logf("%d rounds: 1 refresh and %d answers in each; the slowest took %v", rounds, processes*crowdRequests, slowest)
	})
}

const crowdRequests = 100 // of each process

// crowd has all processes ask at once, and returns how long the slowest request
// took.
func (w *world) crowd(t *testing.T, fleet []*process, u user) (slowest time.Duration) {
	t.Helper()
	before := w.idp.Stats()
	at := ticks() + int64(50*time.Millisecond)
	reports := make([]*report, len(fleet))
	together(len(fleet), func(i int) {
		reports[i] = fleet[i].ask(t, askArgs{
			Tickets: []string{u.ticket}, Repeat: crowdRequests, Goroutines: crowdRequests, At: at,
		})
	})
	tokens := map[string]bool{}
	for i, r := range reports {
		if err := r.every(crowdRequests); err != nil {
			t.Errorf("%s: %v", fleet[i].name, err)
		}
		for _, token := range r.Tokens {
			tokens[token] = true
		}
		slowest = max(slowest, r.Slowest)
	}
	refreshes, reused, revoked := w.figures(before)
	if refreshes != 1 || reused != 0 || revoked != 0 || len(tokens) != 1 {
		t.Errorf("%d refreshes, %d of them with a used token, %d families revoked, %d different tokens; want 1, 0, 0, 1",
			refreshes, reused, revoked, len(tokens))
	}
	return slowest
}

// wantPeek tells if the process does not have the token where it should.
func (p *process) wantPeek(u user, want string, scopes ...string) error {
	var got string
	if err := p.call("peek", peekArgs{u.ticket, scopes}, &got); err != nil {
		return err
	}
	if got != want {
		return errors.New(p.name + ": the answer is from " + got + ", want " + want)
	}
	return nil
}

// every tells that all requests of a report were answered.
func (r *report) every(want int) error {
	if r.OK != want || len(r.Errors) > 0 {
		return fmt.Errorf("%d of %d answered; errors: %v", r.OK, want, r.Errors)
	}
	return nil
}
