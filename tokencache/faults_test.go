package tokencache_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// A crowd of users works on two machines while their store misbehaves in every
// way: whoever has a valid token is served, no request waits longer than its
// bound, nobody is told to sign in again, nothing newer is overwritten, and well
// within a second after it recovers everything works.
func TestStoreMisbehaves(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault providertest.Fault
		// unreadable tells that what is loaded does not open while it lasts.
		unreadable bool
	}{
		"down":               {fault: providertest.Down()},
		"hangs":              {fault: providertest.Hang()},
		"hangs, deaf":        {fault: providertest.HangDeaf(10 * time.Second)},
		"slow":               {fault: providertest.Slow(100 * time.Millisecond)},
		"too slow":           {fault: providertest.Slow(400 * time.Millisecond)},
		"flaps":              {fault: providertest.EveryNth(2, providertest.Down())},
		"hangs now and then": {fault: providertest.Randomly(0.3, 1, providertest.Hang())},
		"loses replies":      {fault: providertest.LoseReplies()},
		"garbage":            {fault: providertest.AlterBytes(), unreadable: true},
		"half a record":      {fault: providertest.Truncate(), unreadable: true},
		"another version":    {fault: providertest.AlterVersion(), unreadable: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				crowd := newCrowd(t)
				crowd.faults.Set(c.fault)
				crowd.work(t, c.unreadable)
				crowd.faults.Clear()
				time.Sleep(time.Second)
				crowd.recovered(t)
			})
		})
	}
}

type crowd struct {
	a       *authority
	faults  *providertest.Faults
	nodes   []*tokencache.Cache
	tickets []tokencache.Ticket
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{a: newAuthority(), faults: providertest.NewFaults(newProvider(t))}
	options := &tokencache.Options{Keys: newKeys(t)}
	store := &faulty{Provider: c.faults, hide: func(caps *tokencache.Capabilities) { caps.InProcess = false }}
	for range 2 {
		c.nodes = append(c.nodes, newCache(t, store, options))
	}
	for i := range 20 {
		ticket, err := c.nodes[0].SignIn(t.Context(), c.a.signInAs(fmt.Sprint("user-", i), "read"))
		if err != nil {
			t.Fatal(err)
		}
		c.tickets = append(c.tickets, ticket)
		mustToken(t, c.nodes[1].Partition(ticket.Key()), nil, "read") // both have a copy
	}
	return c
}

// bound is how long a request may take while the store misbehaves: a lookup, a
// lease, a load, and the time that a new token waits to be stored. Somebody else's
// refresh may have to be waited for.
const bound = 5 * time.Second

// work goes on for ten seconds, which is less than copies live. Half of the users
// ask for what is in memory, and are served. The others ask for something new.
func (c *crowd) work(t *testing.T, unreadable bool) {
	t.Helper()
	var wg sync.WaitGroup
	began := time.Now()
	for i, ticket := range c.tickets {
		for _, node := range c.nodes {
			wg.Go(func() {
				for k := 0; time.Since(began) < 10*time.Second; k++ {
					if i%2 == 0 {
						c.request(t, node.Partition(ticket.Key()), fmt.Sprint("scope-", k%3), unreadable)
					} else {
						c.hit(t, node.Partition(ticket.Key()))
					}
				}
			})
		}
	}
	wg.Wait()
}

func (c *crowd) hit(t *testing.T, p *tokencache.Partition) {
	began := time.Now()
	if _, err := p.Token(t.Context(), request("read"), c.a); err != nil {
		t.Errorf("a valid token was not served: %v", err)
	}
	if took := time.Since(began); took > bound {
		t.Errorf("a request that needs no refresh took %v", took)
	}
	time.Sleep(50 * time.Millisecond)
}

func (c *crowd) request(t *testing.T, p *tokencache.Partition, scope string, unreadable bool) {
	began := time.Now()
	_, err := p.Token(t.Context(), request(scope), c.a)
	if took := time.Since(began); took > bound {
		t.Errorf("a request took %v", took)
	}
	switch {
	case err == nil, errors.Is(err, tokencache.ErrUnavailable), errors.Is(err, tokencache.ErrBusy):
	case unreadable && errors.Is(err, tokencache.ErrUnreadable):
	default:
		t.Errorf("a request failed with %v", err)
	}
	time.Sleep(50 * time.Millisecond)
}

// recovered has everybody ask for something new on each machine.
func (c *crowd) recovered(t *testing.T) {
	t.Helper()
	for _, ticket := range c.tickets {
		for i, node := range c.nodes {
			mustToken(t, node.Partition(ticket.Key()), c.a, fmt.Sprint("afterwards-", i))
		}
	}
	if c.a.refreshes.Load() == 0 {
		t.Error("nobody asked the server: the test looks at nothing")
	}
	if got := c.a.reused.Load(); got != 0 {
		t.Errorf("%d refresh tokens were used twice", got)
	}
}
