package main

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// TestHungServerHoldsUpNobodyElse: many users wait for a server that hangs, and
// one has a valid token.
func TestHungServerHoldsUpNobodyElse(t *testing.T) {
	s := open(t, "-auto-login")
	healthy := s.signedIn(t, "healthy")
	var waiting []*visitor
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		v := s.signedIn(t, name)
		v.expire(t)
		waiting = append(waiting, v)
	}
	s.fault(t, idp.Fault{Endpoint: "token", Kind: "hang", Delay: time.Minute})
	var wg sync.WaitGroup
	for _, v := range waiting {
		for range maxCalls / 4 { // together more than there are places
			wg.Go(func() { v.get(t, "/api/me").want(t, http.StatusServiceUnavailable, "identity_server_unavailable") })
		}
	}
	time.Sleep(300 * time.Millisecond)
	answered := make(chan answer, 1)
	wg.Go(func() { answered <- healthy.me(t) })
	select {
	case <-answered:
	case <-time.After(s.patience / 2):
		t.Error("a user with a valid token waits for those who have none")
	}
	wg.Wait()
}

// TestCallbackTwiceAtOnce: a double click must not redeem the code twice, upon
// which the server would revoke what it has issued.
func TestCallbackTwiceAtOnce(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login")...)
		v := s.visitor(t, 0).stays()
		authorize := v.get(t, "/signin?login_hint=ada").header.Get("Location")
		callback := (&visitor{Client: v.Client}).get(t, authorize).header.Get("Location")
		path := strings.TrimPrefix(callback, v.base)
		s.fault(t, idp.Fault{Endpoint: "token", Delay: 400 * time.Millisecond, Times: 2})

		first := make(chan reply, 1)
		go func() { first <- v.get(t, path) }()
		time.Sleep(150 * time.Millisecond) // the first is at the server
		v.get(t, path).want(t, http.StatusBadRequest, "")
		if got := <-first; got.status != http.StatusSeeOther {
			t.Errorf("the first callback: status %d", got.status)
		}
		if got := s.idp().Stats().FamiliesRevoked; got != 0 {
			t.Errorf("the server revoked %d families", got)
		}
		v.me(t)
	})
}

// TestStreamEndsWithTheSignIn: a stream of an old cookie must not tell of what
// the user does after signing in again.
func TestStreamEndsWithTheSignIn(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-auto-login")...)
		v := s.signedIn(t, "ada")
		lines := v.stream(t)
		v.stays().post(t, "/signout", url.Values{"everywhere": {"1"}})
		again := s.signedIn(t, "ada")
		again.me(t)
		deadline := time.After(5 * time.Second)
		for {
			select {
			case line, open := <-lines:
				if !open {
					return
				}
				if strings.Contains(line, `"sign-in"`) {
					t.Fatal("the old stream tells of the new sign-in")
				}
			case <-deadline:
				t.Fatal("the stream goes on after its sign-in was removed")
			}
		}
	})
}

// TestSignOutSaysHowFar: the parameter counts wherever it stands, and a form that
// cannot be read is not taken for less than it asks.
func TestSignOutSaysHowFar(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v, other := s.signedIn(t, "ada"), s.signedIn(t, "ada")
	v.stays().post(t, "/signout", url.Values{"filler": {strings.Repeat("a", 200_000)}, "everywhere": {"1"}}).want(t, http.StatusBadRequest, "")
	v.me(t)
	v.stays().post(t, "/signout?everywhere=1", nil).want(t, http.StatusSeeOther, "")
	other.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
}

// TestAPIRefuses: waiting would help nobody.
func TestAPIRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.signedIn(t, "ada")
	s.fault(t, idp.Fault{Endpoint: "api", Status: http.StatusForbidden})
	v.get(t, "/api/me").want(t, http.StatusForbidden, "api_refused")
}
