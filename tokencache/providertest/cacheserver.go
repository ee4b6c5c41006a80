package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// server is an authorization server. It rotates refresh tokens and allows no
// grace: one that is used twice ends its whole family.
type server struct {
	// keeps has it not rotate; lenient has it take a refresh token again.
	keeps, lenient bool
	// delay is how long it thinks, so that callers meet.
	delay time.Duration

	refreshes atomic.Int64 // times that it was asked
	reused    atomic.Int64 // refresh tokens that were used twice

	mu     sync.Mutex
	serial int
	gate   *gate
	issued map[tokencache.Secret]issued  // access tokens
	live   map[tokencache.Secret]*family // refresh tokens that were not used
	spent  map[tokencache.Secret]*family
}

// issued is what an access token is good for.
type issued struct{ account, tenant, scope string }

// family is the refresh tokens of one sign-in.
type family struct {
	account string
	ended   bool
}

func newServer() *server {
	return &server{
		issued: make(map[tokencache.Secret]issued),
		live:   make(map[tokencache.Secret]*family),
		spent:  make(map[tokencache.Secret]*family),
	}
}

// gate holds up everybody who comes until it is opened.
type gate struct {
	came   chan struct{}
	opened chan struct{}
}

func newGate() *gate { return &gate{came: make(chan struct{}, 64), opened: make(chan struct{})} }

func (g *gate) pass(ctx context.Context) error {
	if g == nil {
		return nil
	}
	g.came <- struct{}{}
	select {
	case <-g.opened:
		return nil
	case <-ctx.Done():
		return &tokencache.ServerError{Err: ctx.Err()}
	}
}

// hold has the server hold up who asks from now on.
func (s *server) hold() *gate {
	g := newGate()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = g
	return g
}

// grant is what a sign-in of the account brings. Padding makes it longer, where
// nothing is shed to make it fit.
func (s *server) grant(account, scope, padding string) tokencache.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.issue(&family{account: account}, homeTenant, scope)
	g.IDToken = tokencache.Secret("marker-id-token" + padding)
	g.Account = tokencache.Account{
		ID: account, LocalID: "marker-local", Tenant: homeTenant, Username: "marker-user@example.test", Name: "marker-name",
	}
	return g
}

// homeTenant is the directory that users sign in to.
const homeTenant = "marker-home"

// issue is called with the lock held.
func (s *server) issue(f *family, tenant, scope string) tokencache.Grant {
	s.serial++
	g := tokencache.Grant{
		AccessToken:  tokencache.Secret(fmt.Sprintf("marker-access-%d", s.serial)),
		RefreshToken: tokencache.Secret(fmt.Sprintf("marker-refresh-%d", s.serial)),
		Scopes:       []string{scope},
		Expires:      time.Now().Add(time.Hour),
	}
	s.issued[g.AccessToken] = issued{f.account, tenant, scope}
	s.live[g.RefreshToken] = f
	return g
}

// Refresh answers as [tokencache.Server] asks for.
func (s *server) Refresh(ctx context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	s.refreshes.Add(1)
	s.mu.Lock()
	g := s.gate
	s.mu.Unlock()
	if err := g.pass(ctx); err != nil {
		return tokencache.Grant{}, err
	}
	time.Sleep(s.delay)
	return s.answer(rt, req)
}

func (s *server) answer(rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tenant := req.Tenant
	if tenant == "" {
		tenant = homeTenant
	}
	if len(req.Scopes) != 1 {
		return tokencache.Grant{}, errors.New("this server issues tokens for one scope")
	}
	if rt == "" { // on behalf of the bearer of an incoming token
		g := s.issue(&family{}, tenant, req.Scopes[0])
		delete(s.live, g.RefreshToken)
		g.RefreshToken = ""
		return g, nil
	}
	f, ok := s.live[rt]
	if !ok {
		if f, ok = s.spent[rt]; ok && !s.lenient {
			s.reused.Add(1)
			f.ended = true
		}
	}
	if !ok || f.ended {
		return tokencache.Grant{}, tokencache.ErrInvalidGrant
	}
	g := s.issue(f, tenant, req.Scopes[0])
	g.Account = tokencache.Account{ID: f.account, LocalID: "marker-local", Tenant: tenant}
	if s.keeps {
		delete(s.live, g.RefreshToken)
		g.RefreshToken = ""
		return g, nil
	}
	delete(s.live, rt)
	s.spent[rt] = f
	return g, nil
}

// Revoke ends the family.
func (s *server) Revoke(_ context.Context, rt tokencache.Secret) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, all := range []map[tokencache.Secret]*family{s.live, s.spent} {
		if f := all[rt]; f != nil {
			f.ended = true
		}
	}
	return nil
}

// secrets are all tokens that were issued.
func (s *server) secrets() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token := range s.issued {
		all = append(all, string(token))
	}
	for token := range s.live {
		all = append(all, string(token))
	}
	slices.Sort(all)
	return all
}

// of returns what the access token is good for.
func (s *server) of(token tokencache.Secret) issued {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued[token]
}
