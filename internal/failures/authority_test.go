package failures_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// authority is an authorization server that rotates refresh tokens at every use
// and allows no grace: using one twice revokes its family.
type authority struct {
	mu       sync.Mutex
	serial   int
	families map[tokencache.Secret]*family // by every refresh token there was
	latest   map[string]*family            // by account
}

// family is what has come of one sign-in.
type family struct {
	account  string
	lifetime time.Duration // of its access tokens
	current  tokencache.Secret
	reuses   int
	revoked  bool
}

// answerTime is how long the authority takes to answer.
const answerTime = 5 * time.Millisecond

func newAuthority() *authority {
	return &authority{families: map[tokencache.Secret]*family{}, latest: map[string]*family{}}
}

// current is the account's refresh token that has not been spent.
func (a *authority) current(account string) tokencache.Secret {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.latest[account].current
}

// signIn issues the first tokens of a family.
func (a *authority) signIn(account string, lifetime time.Duration) func(context.Context) (tokencache.Grant, error) {
	return func(context.Context) (tokencache.Grant, error) {
		time.Sleep(answerTime)
		a.mu.Lock()
		defer a.mu.Unlock()
		f := &family{account: account, lifetime: lifetime}
		a.latest[account] = f
		g := a.issue(f, []string{scope})
		g.Account = tokencache.Account{ID: account, LocalID: account, Username: "user@example.test"}
		return g, nil
	}
}

// issue is called with the lock held.
func (a *authority) issue(f *family, scopes []string) tokencache.Grant {
	a.serial++
	f.current = tokencache.Secret(fmt.Sprintf("marker-refresh-%d", a.serial))
	a.families[f.current] = f
	return tokencache.Grant{
		AccessToken:  tokencache.Secret(fmt.Sprintf("%s%d", accessOf(f.account), a.serial)),
		Scopes:       scopes,
		Expires:      time.Now().Add(f.lifetime),
		RefreshToken: f.current,
	}
}

// accessOf is how the access tokens of an account begin.
func accessOf(account string) string { return "marker-access-" + account + "-" }

func isOf(account string, token tokencache.Secret) bool {
	return strings.HasPrefix(string(token), accessOf(account))
}

func (a *authority) Refresh(_ context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	time.Sleep(answerTime)
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.families[rt]
	switch {
	case f == nil || f.revoked:
		return tokencache.Grant{}, tokencache.ErrInvalidGrant
	case f.current != rt:
		f.reuses++
		f.revoked = true
		return tokencache.Grant{}, tokencache.ErrInvalidGrant
	}
	return a.issue(f, req.Scopes), nil
}

func (a *authority) Revoke(_ context.Context, rt tokencache.Secret) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.families[rt]; f != nil {
		f.revoked = true
	}
	return nil
}

// reused counts the users one of whose refresh tokens was used twice.
func (a *authority) reused() (users int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := map[*family]bool{}
	for _, f := range a.families {
		if f.reuses > 0 && !seen[f] {
			seen[f] = true
			users++
		}
	}
	return users
}

// holds tells whether the refresh token is the newest of the account.
func (a *authority) holds(account string, rt tokencache.Secret) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.latest[account]
	return f != nil && f.current == rt
}
