package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// span is when something began and ended, by ticks.
type span struct{ Begin, End int64 }

// signOut signs a user out, and tells when.
func (c *child) signOut(ctx context.Context, args json.RawMessage) (any, error) {
	p, err := c.partition(args)
	if err != nil {
		return nil, err
	}
	var s span
	s.Begin = ticks()
	err = c.client.SignOut(tokencache.NewContext(ctx, p))
	s.End = ticks()
	return s, err
}

// untilGone asks for a user's token over and over until there is none, sends an
// event when L1 has served one, and tells when it did so last.
func (c *child) untilGone(ctx context.Context, args json.RawMessage) (any, error) {
	req := tokencache.Request{Scopes: []string{usualScope}}
	var last int64
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		p, err := c.partition(args)
		if err != nil {
			return nil, err
		}
		switch tok, err := p.Token(ctx, req, nil); {
		case errors.Is(err, tokencache.ErrNoTokens):
			return last, nil
		case err == nil && tok.Source == tokencache.SourceL1:
			if last == 0 {
				c.send(message{Event: "served"})
			}
			last = ticks()
		}
	}
	return nil, errors.New("the user is still signed in")
}

func (c *child) partition(args json.RawMessage) (*tokencache.Partition, error) {
	var a peekArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, errors.New("the arguments are malformed")
	}
	ticket, err := tokencache.ParseTicket(a.Ticket)
	if err != nil {
		return nil, err
	}
	return c.cache.Partition(ticket.Key()), nil
}

// outlived signs a user out at one process and returns for how long L1 of
// another served the token after that had begun. The function is called when the
// other has it in L1.
func outlived(t *testing.T, here, there *process, u user, before func()) time.Duration {
	t.Helper()
	args := peekArgs{Ticket: u.ticket}
	var last int64
	gone := make(chan error, 1)
	go func() { gone <- there.call("until gone", args, &last) }()
	select {
	case <-there.events:
	case err := <-gone:
		t.Fatal("the token was not in L1:", err)
	}
	if before != nil {
		before()
	}
	var s span
	check(t, here.call("sign out", args, &s))
	check(t, <-gone)
	return time.Duration(max(0, last-s.Begin))
}

// What is signed out by one process is gone from the memory of another as soon as
// that one hears of it.
func TestSignOutEmptiesOtherMemories(t *testing.T) {
	everyBackend(t, false, func(t *testing.T, s service) {
		usual, most := s.traits().heard, time.Second
		w := newWorld(t, s)
		fleet := w.fleet(2, nil)
		var all []time.Duration
		for _, u := range w.signIn(t, "signout", rounds(s, 50, 500)) {
			all = append(all, outlived(t, fleet[0], fleet[1], u, nil))
		}
		middle, worst := median(all), slices.Max(all)
		if middle > usual || worst > most {
			t.Errorf("copies in memory outlived the sign-out by %v (median) and %v (worst), want at most %v and %v",
				middle, worst, usual, most)
		}
		t.Logf("%d sign-outs: another process's L1 served for %v (median), %v (worst) after the beginning of each",
			len(all), middle, worst)
	}, kind{listening, startListening})
}

// A process that hears of no changes serves for L1's maximum age.
func TestSignOutUnheard(t *testing.T) {
	everyBackend(t, true, func(t *testing.T, s service) {
		const age = 2 * time.Second
		w := newWorld(t, s)
		fleet := w.fleet(2, func(i int, s *setup) {
			if i == 1 {
				s.Backend, s.L1MaxAge = w.service.deaf(), age
			}
		})
		for _, u := range w.signIn(t, "unheard", 3) {
			served := outlived(t, fleet[0], fleet[1], u, nil)
			if served > age+age/4 {
				t.Errorf("L1 served for %v, want at most its maximum age of %v", served, age)
			}
			if served < age/2 {
				t.Errorf("L1 served for %v: the process has heard of it", served)
			}
			t.Logf("served for %v, with a maximum age of %v", served, age)
		}
	})
}

// A process whose connections have gone dead without a word notices that within
// seconds. Until it has new ones, the store is down for it, and it may serve its
// copies for L1's maximum age, as in any outage.
func TestSignOutOverDeadConnections(t *testing.T) {
	everyBackend(t, true, func(t *testing.T, s service) {
		const age = 15 * time.Second // by default
		w := newWorld(t, s)
		proxy := testserver.NewProxy(t, s.at().addr(t))
		fleet := w.fleet(2, func(i int, s *setup) {
			if i == 1 {
				s.Backend, s.ProviderTimeout = s.Backend.through(proxy.Addr()), 0
			}
		})
		for _, u := range w.signIn(t, "dead", 2) {
			served := outlived(t, fleet[0], fleet[1], u, func() { proxy.Set(testserver.Fault{HalfOpen: true}) })
			proxy.Heal()
			if served > age+age/10 {
				t.Errorf("L1 served for %v, want at most its maximum age of %v", served, age)
			}
			t.Log("served for", served)
			eventually(t, func() error { return fleet[1].wantPeek(u, "removed") })
		}
	})
}
