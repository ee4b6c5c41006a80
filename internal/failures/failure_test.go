package failures_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// site is a store that a failure can be made of.
type site struct {
	// connect returns a provider with a client of its own, as a machine has one.
	// Both end with the test.
	connect func(*testing.T) tokencache.Provider
	// fail begins the failure, and heal ends it. heal returns when the store is
	// well again.
	fail, heal func(context.Context) error
}

// failure is a way in which a store fails.
type failure struct {
	name    string
	start   func(*testing.T) *site
	lasts   time.Duration
	empties bool // the store is back with nothing, so that users may have to sign in again
	// recovers is how long it takes until all is well again, if that is not
	// recoveryBound: the driver's part.
	recovers time.Duration
}

// testFailures has the crowd work while the store fails and recovers, and
// prints what happened to it. A server that takes more of the processors can have
// fewer failures be looked at side by side.
func testFailures(t *testing.T, atOnce int, failures []failure) {
	rows := &table{}
	t.Cleanup(func() { rows.print(t) })
	places := make(chan struct{}, atOnce)
	for i, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			places <- struct{}{}
			t.Cleanup(func() { <-places }) // after the servers have ended
			rows.set(i, f.run(t))
		})
	}
}

func (f failure) run(t *testing.T) *row {
	s := f.start(t)
	c := newCrowd(t, s)
	busy := watchMachine(t.Context())
	c.begin(t.Context())
	defer c.end()
	time.Sleep(400 * time.Millisecond)
	c.seen.enter(during)
	if err := s.fail(t.Context()); err != nil {
		t.Fatal("the store does not fail:", err)
	}
	comes, goes := c.comeAndGo(t.Context())
	wait(t.Context(), f.lasts)
	if err := s.heal(t.Context()); err != nil {
		t.Fatal("the store does not recover:", err)
	}
	c.seen.enter(after)
	copies := time.Since(c.warm)
	arrived := comes.arrived(c)
	r := &row{failure: f.name}
	r.recovered, r.lost = c.recover(t, f.empties)
	c.settle(t, comes, goes, arrived, f.empties)
	c.end()
	if copies > copiesLive {
		t.Log("the machine was too busy to tell whether copies are served")
		c.seen.failed[hit] = 0
	}
	r.reused, r.seen = c.server.reused(), c.seen
	if late := busy(); late < tooLate {
		f.inTime(t, c, r)
	} else {
		t.Logf("the machine was busy for %v at once: the times say nothing", late)
		r.failure += " (busy)"
	}
	c.verify(t)
	f.check(t, c, r)
	return r
}

// watchMachine returns a function that tells for how long the processors have
// kept somebody waiting who had nothing to wait for.
func watchMachine(ctx context.Context) (late func() time.Duration) {
	ctx, stop := context.WithCancel(ctx)
	longest := make(chan time.Duration, 1)
	go func() {
		var most time.Duration
		const step = 10 * time.Millisecond
		for ctx.Err() == nil {
			began := time.Now()
			wait(ctx, step)
			most = max(most, time.Since(began)-step)
		}
		longest <- most
	}()
	return func() time.Duration {
		stop()
		return <-longest
	}
}

// inTime holds the bounds.
func (f failure) inTime(t *testing.T, c *crowd, r *row) {
	t.Helper()
	for k, longest := range c.seen.longest {
		if longest > bounds[k]+slack {
			t.Errorf("a request (%s) took %v, want %v at most", kindNames[k], longest, bounds[k])
		}
		if c.seen.count[k] == 0 {
			t.Errorf("no request (%s) was made: the test looks at nothing", kindNames[k])
		}
	}
	if bound := cmp.Or(f.recovers, recoveryBound); r.recovered > bound+recoverySlack {
		t.Errorf("all was well %v after the store was, want %v", r.recovered, bound)
	}
}

// check holds what was promised, however busy the machine is.
func (f failure) check(t *testing.T, c *crowd, r *row) {
	t.Helper()
	if failed := c.seen.failed[hit]; failed > 0 && !f.empties {
		t.Errorf("%d of %d requests with a valid copy were not served", failed, c.seen.count[hit])
	}
	if !f.empties && (r.lost > 0 || len(c.seen.signsOut) > 0) {
		t.Errorf("%d users were signed out, requests were told %v", r.lost, c.seen.signsOut)
	}
	if c.seen.signsOut[errNotTheirs.Error()] > 0 {
		t.Error(errNotTheirs)
	}
	if r.reused > 0 {
		t.Errorf("refresh tokens of %d users were used twice", r.reused)
	}
}

// recover waits until every user has a token and another one on each machine, and
// returns how long it took, and who had to sign in again if the store may lose
// somebody.
func (c *crowd) recover(t *testing.T, lossy bool) (took time.Duration, lost int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	well := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, u := range c.all() {
		wg.Go(func() {
			out := false
			for _, m := range c.machines {
				err := c.works(ctx, m, u)
				out = err != nil || out
				if ctx.Err() != nil {
					t.Errorf("a user has no tokens long after the store recovered: %v", err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			took = max(took, time.Since(well))
			if out {
				lost++
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		t.FailNow()
	}
	if lost > 0 && lossy {
		c.signInAgain(t)
	}
	return took, lost
}

// works asks for a token and then for another, until there are both, or it is
// clear that the user has to sign in again.
func (c *crowd) works(ctx context.Context, m *tokencache.Cache, u *user) error {
	last := errors.New("there was no time to ask")
	for ctx.Err() == nil {
		tok, err := c.token(ctx, m, u, "")
		if err == nil {
			_, err = c.token(ctx, m, u, tok)
		}
		if err == nil || errors.Is(err, tokencache.ErrNoTokens) {
			return err
		}
		last = err
		wait(ctx, 10*time.Millisecond)
	}
	return fmt.Errorf("%w: %w", ctx.Err(), last)
}

// patiently repeats for a while what ends with an outage: a machine may be busy, or
// still have connections that are dead.
func patiently(ctx context.Context, do func() error) (err error) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		if err = do(); err == nil || !outage(err) {
			return err
		}
		wait(ctx, 20*time.Millisecond)
	}
	return err
}

// signInAgain has those sign in who have no tokens, which must work.
func (c *crowd) signInAgain(t *testing.T) {
	t.Helper()
	c.end() // tickets change
	for _, u := range c.all() {
		if c.works(t.Context(), c.machines[0], u) == nil {
			continue
		}
		again := func() error { return c.signIn(t.Context(), c.machines[0], u) }
		if err := patiently(t.Context(), again); err != nil {
			t.Error("sign-in after the tokens were lost:", err)
		}
	}
}

// verify looks into the store: every user's newest refresh token is there, and
// nothing that was obtained waits to be stored.
func (c *crowd) verify(t *testing.T) {
	t.Helper()
	for _, u := range c.all() {
		for _, m := range append([]*tokencache.Cache{c.cold}, c.machines...) {
			if err := c.works(t.Context(), m, u); err != nil {
				t.Errorf("afterwards a user has no tokens: %v", err)
			}
		}
		held, err := c.stored(t.Context(), u)
		if err != nil || !c.server.holds(u.account, held) {
			t.Errorf("what is stored for a user is not their newest refresh token (%v)", err)
		}
	}
}

// stored is the refresh token that the store has for the user.
func (c *crowd) stored(ctx context.Context, u *user) (tokencache.Secret, error) {
	var tokens *tokencache.Tokens
	err := patiently(ctx, func() (err error) {
		tokens, err = c.cold.Partition(u.ticket.Key()).Tokens(ctx)
		return err
	})
	if err != nil {
		return "", err
	}
	text, err := tokens.MarshalJSON()
	if err != nil {
		return "", err
	}
	var document struct {
		RefreshToken map[string]struct{ Secret tokencache.Secret }
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return "", errors.New("the document does not decode")
	}
	for _, entry := range document.RefreshToken {
		return entry.Secret, nil
	}
	return "", errors.New("there is no refresh token")
}

// passage is somebody who signs in or out while the store fails.
type passage struct {
	user *user
	done chan struct{}
	err  error
}

// comeAndGo has one user sign in and another sign out.
func (c *crowd) comeAndGo(ctx context.Context) (comes, goes *passage) {
	comes = &passage{user: &user{account: "newcomer", lifetime: time.Hour}, done: make(chan struct{})}
	goes = &passage{user: c.leaver, done: make(chan struct{})}
	go comes.pass(c, signIn, func() error { return c.signIn(ctx, c.machines[0], comes.user) })
	go goes.pass(c, signOut, func() error {
		return c.machines[1].Partition(goes.user.ticket.Key()).SignOut(ctx, c.server)
	})
	return comes, goes
}

func (p *passage) pass(c *crowd, k kind, do func() error) {
	defer close(p.done)
	began := time.Now()
	p.err = do()
	c.seen.add(k, began, p.err)
}

// arrived has the newcomer belong to the crowd, if that is clear already.
func (p *passage) arrived(c *crowd) bool {
	select {
	case <-p.done:
		if p.err == nil {
			c.idle = append(c.idle, p.user)
		}
		return p.err == nil
	default:
		return false
	}
}

// settle holds what the two were told. A sign-in or a sign-out that failed can be
// repeated; one that did not fail has happened.
func (c *crowd) settle(t *testing.T, comes, goes *passage, arrived, lossy bool) {
	t.Helper()
	ctx := t.Context()
	<-comes.done
	if comes.err != nil {
		again := func() error { return c.signIn(ctx, c.machines[0], comes.user) }
		if err := patiently(ctx, again); err != nil {
			t.Error("sign-in after the failure:", err)
		}
	}
	if !arrived {
		c.idle = append(c.idle, comes.user)
	}
	<-goes.done
	leaver := func() *tokencache.Partition { return c.cold.Partition(goes.user.ticket.Key()) }
	if goes.err != nil || lossy {
		again := func() error { return leaver().SignOut(ctx, c.server) }
		if err := patiently(ctx, again); err != nil {
			t.Error("sign-out after the failure:", err)
		}
	}
	if err := patiently(ctx, func() error { return leaver().Check(ctx) }); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("after the sign-out the tokens are still there: %v", err)
	}
}
