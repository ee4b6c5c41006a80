package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The life of a user's tokens that hooks keep, and what each hook is told.
func TestHooksPersist(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	ticket := mustSignIn(t, cache, a, "read")
	s.want(t, "sign in", "before", "write changed tokens", "after changed tokens")

	p := cache.Partition(ticket.Key())
	first := mustToken(t, p, a, "read")
	s.want(t, "hit", "before", "after tokens provider")
	mustToken(t, p, a, "read")
	s.want(t, "every hit reads", "before", "after tokens provider")

	mustToken(t, p, a, "write")
	s.want(t, "miss and refresh", "before", "after tokens",
		"before", "write changed tokens", "after changed tokens")

	if err := p.Check(t.Context()); err != nil {
		t.Error(err)
	}
	s.want(t, "check", "before", "after tokens provider")
	tokens, err := p.Tokens(t.Context())
	if err != nil || len(tokens.Entries()) != 4 {
		t.Errorf("the tokens have %d entries, %v, want two access tokens, a refresh and an ID token", len(tokens.Entries()), err)
	}
	s.want(t, "tokens", "before", "after tokens provider")

	mustExpire(t, p)
	s.want(t, "expire", "before", "write changed tokens", "after changed tokens")
	if tok := mustToken(t, p, a, "read"); tok.AccessToken == first.AccessToken {
		t.Error("an expired token was served")
	}
	a.wantRefreshes(t, 2)

	again := newHookCache(t, s) // the process was restarted
	mustToken(t, again.Partition(ticket.Key()), nil, "read")

	s.forget()
	if err := p.SignOut(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	s.want(t, "sign out", "before", "write changed", "after changed")
	if doc := s.only(t); doc != "" || a.revokes.Load() != 1 {
		t.Errorf("signed out, and %d bytes are stored, %d refresh tokens revoked", len(doc), a.revokes.Load())
	}
	_, err = p.Token(t.Context(), request("read"), a)
	wantError(t, err, tokencache.ErrRemoved)
	s.want(t, "signed out", "before", "after error")

	anew := mustSignIn(t, cache, a, "read")
	for _, c := range []*tokencache.Cache{cache, newHookCache(t, s)} {
		_, err = c.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
		wantError(t, err, tokencache.ErrNoTokens)
		mustToken(t, c.Partition(anew.Key()), nil, "read")
	}
	s.forget()
	if err := p.SignOut(t.Context(), nil); err != nil { // the old session's
		t.Fatal(err)
	}
	s.want(t, "sign out of an earlier session", "before", "after error")
	if err := cache.Partition(anew.Key()).SignOutEverywhere(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if doc := s.only(t); doc != "" {
		t.Error("signed out everywhere, and tokens are stored")
	}
}

func TestHooksPersistMembers(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	ticket := mustSignIn(t, cache, a, "read")
	s.forget()
	mustToken(t, cache.Partition(ticket.Key()), a, "write")
	key := s.told("before")[0].SuggestedKey
	for phase, list := range map[string][]tokencache.Access{"before": s.told("before"), "write": s.told("write"), "after": s.told("after")} {
		for _, access := range list {
			if access.ClientID != namespace.ClientID || access.Account != account || access.SuggestedKey != key || key == "" ||
				!slices.Equal(access.Scopes, []string{"write"}) || access.ApplicationCache || access.CorrelationID == "" || access.Tokens == nil {
				t.Errorf("%s: members are missing", phase)
			}
			left := time.Until(access.SuggestedExpiry)
			if written := access.HasStateChanged; written != (left > 13*24*time.Hour && left < 15*24*time.Hour) || !written && !access.SuggestedExpiry.IsZero() {
				t.Errorf("%s: changed is %t, and the suggested expiry %v away", phase, written, left)
			}
		}
	}
	after := s.told("after")
	if got := len(after[len(after)-1].Tokens.Entries()); got != 4 {
		t.Errorf("%d entries are written, want 4", got)
	}

	s.forget()
	mustToken(t, cache.Partition(tokencache.ApplicationKey("", "api")), a, "api/.default")
	after = s.told("after")
	last := after[len(after)-1]
	if !last.ApplicationCache || last.Account != "" || last.SuggestedKey == key || !last.HasTokens {
		t.Error("an application's partition is not told as one")
	}
	if left := time.Until(last.SuggestedExpiry); left < 50*time.Minute || left > time.Hour {
		t.Errorf("the suggested expiry is %v away, want the token's", left)
	}
}

// Whoever waited for the server in another process has the answer.
func TestHooksReadAgainInAFlight(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	one, two := newHookCache(t, s), newHookCache(t, s)
	ticket := mustSignIn(t, one, a, "read")
	mustExpire(t, one.Partition(ticket.Key()))
	var refreshed atomic.Bool
	s.set(nil, func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
		if refreshed.CompareAndSwap(false, true) { // between the lookup and the flight
			mustToken(t, two.Partition(ticket.Key()), a, "read")
		}
		return hook(ctx, access)
	})
	mustToken(t, one.Partition(ticket.Key()), a, "read")
	a.wantRefreshes(t, 1)
}

// hookOps are the operations on a partition that read.
func hookOps(p *tokencache.Partition, server tokencache.Server) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"token":    func(ctx context.Context) error { _, err := p.Token(ctx, request("read"), server); return err },
		"check":    p.Check,
		"tokens":   func(ctx context.Context) error { _, err := p.Tokens(ctx); return err },
		"expire":   p.Expire,
		"sign out": func(ctx context.Context) error { return p.SignOut(ctx, server) },
		"everywhere": func(ctx context.Context) error {
			return p.SignOutEverywhere(ctx, server)
		},
	}
}

var errDisk = errors.New("the disk is full")

func TestHooksPersistCannotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, a := newShelf(), newAuthority()
		cache := newHookCache(t, s)
		ticket := mustSignIn(t, cache, a, "read")
		before := s.only(t)
		// An error of this package's says no more than any other.
		for _, cause := range []error{errDisk, fmt.Errorf("%w: mine", tokencache.ErrNotFound), tokencache.ErrConflict, tokencache.ErrRemoved, tokencache.ErrBusy,
			fmt.Errorf("%w: %w", tokencache.ErrUnavailable, tokencache.ErrUnreadable)} { // a key service is down
			s.veto("before", cause)
			for name, op := range hookOps(cache.Partition(ticket.Key()), a) {
				s.forget()
				err := op(t.Context())
				if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNoTokens) || !strings.Contains(err.Error(), cause.Error()) {
					t.Errorf("%s: got %v, want ErrUnavailable because of %v", name, err, cause)
				}
				lines := s.history()
				if last := len(lines) - 1; slices.Contains(lines[:last], "after error") || lines[last] != "after error" || slices.ContainsFunc(lines[:last], func(l string) bool { return l != "before" }) {
					t.Errorf("%s: the hooks were told %q", name, lines)
				}
				if last := s.told("after"); len(last) == 1 && (last[0].Tokens != nil || !errors.Is(last[0].Err, tokencache.ErrUnavailable)) {
					t.Errorf("%s: AfterAccess was shown tokens, or another error: %v", name, last[0].Err)
				}
			}
		}
		// Nor may a sign-in overwrite what nobody could read, whoever has read before.
		for _, c := range []*tokencache.Cache{cache, newHookCache(t, s)} {
			_, err := c.SignIn(t.Context(), a.signIn("read"))
			wantError(t, err, tokencache.ErrUnavailable)
		}
		if s.only(t) != before {
			t.Error("what is stored has changed")
		}
		s.veto("before", nil)
		mustToken(t, cache.Partition(ticket.Key()), nil, "read")
	})
}

func TestHooksPersistVeto(t *testing.T) {
	t.Parallel()
	veto := errors.New("vetoed")
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	before := s.only(t)
	s.veto("write", veto)
	s.forget()
	wantError(t, p.SignOut(t.Context(), a), veto)
	s.want(t, "sign out", "before", "write changed", "after tokens error")
	wantError(t, p.Expire(t.Context()), veto)
	s.want(t, "expire", "before", "write changed tokens", "after error")
	_, err := cache.SignIn(t.Context(), a.signIn("read"))
	wantError(t, err, veto)
	s.want(t, "sign in", "before", "write changed tokens", "after server error")
	if tok, err := p.Token(t.Context(), request("write"), a); err != nil || tok.AccessToken == "" {
		t.Errorf("a token that was obtained was withdrawn: %v", err)
	}
	s.want(t, "refresh", "before", "after tokens", "before", "write changed tokens", "after tokens server error")
	if s.only(t) != before {
		t.Error("what is stored has changed")
	}
}

// What the authorization server has issued is handed out, and written when the
// application can.
func TestHooksPersistCannotWrite(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]time.Duration{"once": time.Nanosecond, "for a moment": 700 * time.Millisecond, "for minutes": 3 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, a := newShelf(), newAuthority()
				cache := newHookCache(t, s)
				ticket := mustSignIn(t, cache, a, "other")
				before := s.only(t)
				s.forget()
				ends := time.Now().Add(outage)
				var writes atomic.Int64
				s.set(nil, func(ctx context.Context, access *tokencache.Access, hook tokencache.Hook) error {
					if access.HasStateChanged && time.Now().Before(ends) {
						return errDisk
					}
					if access.HasStateChanged {
						writes.Add(1)
					}
					return hook(ctx, access)
				})
				began := time.Now()
				tok := mustToken(t, cache.Partition(ticket.Key()), a, "read")
				if took := time.Since(began); tok.AccessToken == "" || took > 2*time.Second {
					t.Errorf("the token came after %v", took)
				}
				if got := mustToken(t, cache.Partition(ticket.Key()), a, "read"); got.AccessToken != tok.AccessToken {
					t.Error("the token that is kept was not served")
				}
				a.wantRefreshes(t, 1)
				if err := cache.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if time.Now().Before(ends) || s.only(t) == before || writes.Load() != 1 {
					t.Errorf("closed with %d writes", writes.Load())
				}
				later := newHookCache(t, s)
				if got := mustToken(t, later.Partition(ticket.Key()), nil, "read"); got.AccessToken != tok.AccessToken {
					t.Error("what was written is not what was handed out")
				}
				mustToken(t, later.Partition(ticket.Key()), a, "more") // the rotated refresh token was written too
				a.wantRefreshes(t, 2)
			})
		})
	}
}

// A refresh that reads again after it has written is not over with the write.
func TestHooksPersistEndAfterAWrite(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	p := cache.Partition(mustSignIn(t, cache, a, "read").Key())
	s.forget()
	asked := 0
	_, err := p.Token(t.Context(), request("write"), serverFunc(func(_ context.Context, rt tokencache.Secret, _ tokencache.Request) (tokencache.Grant, error) {
		if asked++; asked == 1 {
			return tokencache.Grant{RefreshToken: "rotated"}, tokencache.ErrInvalidGrant
		}
		if rt != "rotated" {
			t.Error("the refresh token that came with an error was not used")
		}
		return tokencache.Grant{}, &tokencache.ServerError{Err: errRefused}
	}))
	wantError(t, err, errRefused)
	s.want(t, "refused, and then no answer", "before", "after tokens",
		"before", "write changed tokens", "after changed tokens", "before", "before", "after tokens error")
}

// A removal is no news once another process has signed in again.
func TestHooksPersistForgetARemoval(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	one, two := newHookCache(t, s), newHookCache(t, s)
	p := one.Partition(tokencache.AccountKey(account))
	mustSignIn(t, one, a, "read")
	if err := p.SignOut(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	mustSignIn(t, two, a, "read")
	mustToken(t, p, nil, "read")
	s.put("")
	if err := p.Check(t.Context()); !errors.Is(err, tokencache.ErrNoTokens) || errors.Is(err, tokencache.ErrRemoved) {
		t.Errorf("got %v, want ErrNoTokens alone", err)
	}
}
