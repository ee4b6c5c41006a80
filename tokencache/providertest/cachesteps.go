package providertest

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// scene is what a test of RunCache works with: two machines, and the server.
type scene struct {
	*env
	keys        *tokencache.Keys
	server      *server
	here, there *machine
	setup       cacheSetup
	kept        atomic.Bool // a token was handed out that could not be stored yet
}

// machine is a Cache in front of a provider.
type machine struct {
	*tokencache.Cache
	spy *spy
}

// cacheSetup is how the caches of a test differ from others.
type cacheSetup struct {
	maxAge time.Duration                  // of copies; zero: an hour
	idle   time.Duration                  // IdleTimeout; zero: the default
	hide   func(*tokencache.Capabilities) // nil: nothing
	slow   time.Duration                  // that a save is on its way, so that two meet
}

const (
	// outagePatience is for how long each step of a test bears with outages.
	outagePatience = 45 * time.Second
	// noCopies is a maximum age with which nothing is kept in L1.
	noCopies = time.Nanosecond

	scopeA = "marker-scope-a"
	scopeB = "marker-scope-b"
)

func (e *env) scene(setup cacheSetup) *scene {
	e.Helper()
	s := &scene{env: e, keys: e.newKeys(), server: newServer(), setup: setup}
	s.here, s.there = s.machine(e.p), s.machine(e.peer)
	return s
}

func (e *env) newKeys() *tokencache.Keys {
	e.Helper()
	ring, err := tokencache.NewKeyRing(random32())
	if err != nil {
		e.Fatal("NewKeyRing:", err)
	}
	return &tokencache.Keys{Names: random32(), Seal: ring}
}

func random32() []byte {
	b := make([]byte, tokencache.KeySize)
	_, _ = rand.Read(b) // never fails (crypto/rand, Go 1.24)
	return b
}

// machine starts another Cache in front of the provider, until the test ends.
func (s *scene) machine(p tokencache.Provider) *machine {
	s.Helper()
	m := &machine{spy: &spy{Provider: p, hide: s.setup.hide, slow: s.setup.slow, listening: make(chan struct{})}}
	o := &tokencache.Options{Keys: s.keys, L1MaxAge: s.setup.maxAge, IdleTimeout: s.setup.idle}
	o.Events = func(_ context.Context, e tokencache.Event) {
		if e.Kind == tokencache.EventUnsaved {
			s.kept.Store(true)
		}
	}
	// A busy machine answers late, which is no outage. A server that is killed
	// answers nothing: there is no use in waiting for it.
	o.ProviderTimeout = 5 * time.Second
	if s.outages {
		o.ProviderTimeout = time.Second
	}
	if o.L1MaxAge == 0 {
		o.L1MaxAge = time.Hour
	}
	if s.adjust != nil {
		s.adjust(o)
	}
	ns := tokencache.Namespace{Issuer: "https://marker-issuer.example", ClientID: "marker-client"}
	var err error
	if m.Cache, err = tokencache.New(m.spy, ns, o); err != nil {
		s.Fatal("New:", err)
	}
	s.closers = append(s.closers, func() { s.close(m) })
	if m.spy.Capabilities().Watcher == nil {
		return m
	}
	// To begin to listen ends copies; a test must not see that at any moment.
	select {
	case <-m.spy.listening:
	case <-time.After(s.patience()):
		s.broken(ruleWatchMissed, "a Cache has not heard of the first Change in %v", s.patience())
	}
	return m
}

// fresh is a machine that has no copies.
func (s *scene) fresh() *machine {
	s.Helper()
	return s.machine(s.peer)
}

// close closes the machine's cache; it may be closed again.
func (s *scene) close(m *machine) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.patience())
	defer cancel()
	if err := m.Close(ctx); err != nil {
		s.breach(promiseKept, "Close has not ended within %v", s.patience())
	}
}

// patience is how long something may take that takes no time by itself.
func (s *scene) patience() time.Duration {
	if s.outages {
		return outagePatience
	}
	return patience
}

// step makes a call of a Cache. Where the harness says that there are outages, it
// is repeated while the backend does not answer: that is no answer to judge.
func (s *scene) step(call func() error) error {
	for until := time.Now().Add(outagePatience); ; time.Sleep(20 * time.Millisecond) {
		err := call()
		down := errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrBusy)
		if !s.outages || !down || time.Now().After(until) {
			return err
		}
	}
}

// rawStep is step for a call of the provider itself.
func (s *scene) rawStep(call func() error) error {
	for until := time.Now().Add(outagePatience); ; time.Sleep(20 * time.Millisecond) {
		err := call()
		answer := err == nil
		for _, a := range []error{tokencache.ErrNotFound, tokencache.ErrConflict, tokencache.ErrRemoved, tokencache.ErrTooLarge} {
			answer = answer || errors.Is(err, a)
		}
		if !s.outages || answer || time.Now().After(until) {
			return err
		}
	}
}

// late tells whether what a Cache has answered may not be stored yet: during an
// outage, or on a machine that is too busy to save within a second.
func (s *scene) late() bool { return s.outages || s.kept.Load() }

// afterwards waits for what must hold by now. What could not be stored at once may
// take a while; if it was lost, it never holds.
func (s *scene) afterwards(check func() error) error {
	for until := time.Now().Add(outagePatience); ; time.Sleep(20 * time.Millisecond) {
		err := s.step(check)
		if err == nil || !s.late() || time.Now().After(until) {
			return err
		}
	}
}

// newAccount returns an account that nobody has.
func newAccount() string { return "marker-account-" + tokencache.NewVersion().String() }

// signIn signs the account in on the machine.
func (s *scene) signIn(m *machine, account, scope string) tokencache.Ticket {
	s.Helper()
	ticket, err := s.trySignIn(m, account, scope, "")
	s.want(promiseSignIn, err, nil, "SignIn")
	return ticket
}

func (s *scene) trySignIn(m *machine, account, scope, padding string) (ticket tokencache.Ticket, err error) {
	err = s.step(func() error {
		ticket, err = m.SignIn(s.ctx, func(context.Context) (tokencache.Grant, error) {
			return s.server.grant(account, scope, padding), nil
		})
		return err
	})
	return ticket, err
}

// ask asks for a token of the partition. It is no hit of an earlier Partition: a
// request makes one of its own.
func (s *scene) ask(m *machine, k tokencache.Key, req tokencache.Request, with tokencache.Server) (tok tokencache.Token, err error) {
	err = s.step(func() error {
		tok, err = m.Partition(k).Token(s.ctx, req, with)
		return err
	})
	return tok, err
}

// token asks for a token, from the server if need be, which must be there.
func (s *scene) token(rule string, m *machine, k tokencache.Key, req tokencache.Request) tokencache.Token {
	s.Helper()
	tok, err := s.ask(m, k, req, s.server)
	s.want(rule, err, nil, "Token")
	s.wantFor(tok, k, req)
	return tok
}

// stored asks for a token that must be stored by now.
func (s *scene) stored(rule string, m *machine, k tokencache.Key, req tokencache.Request) (tok tokencache.Token) {
	s.Helper()
	err := s.afterwards(func() (err error) {
		tok, err = m.Partition(k).Token(s.ctx, req, nil)
		return err
	})
	s.want(rule, err, nil, "Token of what is stored")
	s.wantFor(tok, k, req)
	return tok
}

// wantFor reports a token that is somebody else's, or good for something else.
func (s *scene) wantFor(tok tokencache.Token, k tokencache.Key, req tokencache.Request) {
	s.Helper()
	of := s.server.of(tok.AccessToken)
	if of.account != "" && of.account != k.Account() {
		s.breach(promiseOwner, "Token answers with a token of another account")
	}
	if of.scope != req.Scopes[0] || req.Tenant != "" && of.tenant != req.Tenant {
		s.breach(promiseOwner, "Token answers with a token that was issued for something else")
	}
}

// wantNone reports a partition with tokens, or without for another reason than
// want.
func (s *scene) wantNone(rule string, m *machine, k tokencache.Key, want error) {
	s.Helper()
	_, err := s.ask(m, k, wanting(scopeA), nil)
	s.want(rule, err, want, "Token of what is to be gone")
}

// signOut signs the session out on the machine.
func (s *scene) signOut(m *machine, k tokencache.Key) {
	s.Helper()
	err := s.step(func() error { return m.Partition(k).SignOut(s.ctx, nil) })
	s.want(promiseRemoved, err, nil, "SignOut")
}

// signOutEverywhere signs the account out on the machine.
func (s *scene) signOutEverywhere(m *machine, k tokencache.Key) {
	s.Helper()
	err := s.step(func() error { return m.Partition(k).SignOutEverywhere(s.ctx, nil) })
	s.want(promiseEverywhere, err, nil, "SignOutEverywhere")
}

// expire drops the access tokens of the partition.
func (s *scene) expire(m *machine, k tokencache.Key) {
	s.Helper()
	err := s.step(func() error { return m.Partition(k).Expire(s.ctx) })
	s.want(promiseNobodyOut, err, nil, "Expire")
}

// load loads a record from the provider, for a look at what is stored.
func (s *scene) load(n tokencache.Name) (r tokencache.Record, err error) {
	err = s.rawStep(func() error {
		r, err = s.p.Load(s.ctx, n)
		return err
	})
	return r, err
}

// plant puts a record into the provider, as somebody would who can write to the
// backend.
func (s *scene) plant(n tokencache.Name, r tokencache.Record) {
	s.Helper()
	err := s.rawStep(func() error { return s.p.Save(s.ctx, n, r, tokencache.Always()) })
	s.want(ruleAlways, err, nil, "Save")
}

// wantUnspent reports refresh tokens that were used twice.
func (s *scene) wantUnspent() {
	s.Helper()
	if n := s.server.reused.Load(); n > 0 {
		s.breach(promiseSpend, "a refresh token was used twice (%d times): its user is signed out", n)
	}
}

// each runs f on both machines, by so many goroutines on each at once.
func (s *scene) each(n int, f func(i int, m *machine)) {
	var all sync.WaitGroup
	for i := range 2 * n {
		all.Go(func() { f(i, []*machine{s.here, s.there}[i%2]) })
	}
	all.Wait()
}

// wanting asks for a scope.
func wanting(scope string) tokencache.Request { return tokencache.Request{Scopes: []string{scope}} }

// tick lets the clock move on, which stands still by itself in a bubble: a
// sign-in at the very moment of a sign-out has come before it.
func tick() { time.Sleep(time.Millisecond) }
