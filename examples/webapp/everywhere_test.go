package main

import (
	"errors"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestSignOutEverywhereOverNodes signs out on one node while a refresh on another
// and a sign-in on a third are at the identity server, which takes its time.
// Neither may bring the user back, on any node; and signing in again works at
// once, whether those have ended or not.
func TestSignOutEverywhereOverNodes(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{false, true} { // sign in again before they have ended
		for range 2 {
			t.Run(map[bool]string{false: "afterwards", true: "meanwhile"}[early], func(t *testing.T) {
				t.Parallel()
				eachProvider(t, func(t *testing.T, store ...string) { signOutEverywhere(t, early, store...) })
			})
		}
	}
}

func signOutEverywhere(t *testing.T, early bool, store ...string) {
	s := open(t, append(store, "-auto-login", "-nodes=4")...)
	user := s.signedIn(t, "ada")
	var others []*visitor // a browser for each node: being told ends its session
	for k := range s.nodes {
		others = append(others, s.signedIn(t, "ada").at(s.nodes[k]))
		others[k].get(t, "/api/cache").want(t, http.StatusOK, "") // in every L1
	}
	others[1].expire(t)
	late := s.visitor(t, 2)
	callback := callbackOf(t, late, "ada")
	account := s.ticketOf(t).Account()

	before := s.idp().Stats().TokenRequests
	s.fault(t, idp.Fault{Endpoint: "token", Delay: 600 * time.Millisecond, Times: 2})
	var refresh, signIn reply
	var wg sync.WaitGroup
	wg.Go(func() { refresh = others[1].get(t, "/api/me") })
	wg.Go(func() { signIn = late.stays().get(t, callback) })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		now := s.idp().Stats().TokenRequests
		if now.RefreshToken > before.RefreshToken && now.AuthorizationCode > before.AuthorizationCode {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the requests do not reach the identity server")
		}
	}
	user.stays().post(t, "/signout", url.Values{"everywhere": {"1"}}).want(t, http.StatusSeeOther, "")
	again := s.visitor(t, 0)
	if early {
		again = s.signedIn(t, "ada")
	}
	wg.Wait()
	refresh.want(t, http.StatusUnauthorized, "sign_in_required")
	signIn.want(t, http.StatusUnauthorized, "")
	late.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
	for k, v := range others {
		v.soon(t, "/api/me", http.StatusUnauthorized, "sign_in_required")
		if early {
			continue // another sign-in's tokens are there by now
		}
		p := s.nodes[k].cache.Partition(tokencache.AccountKey(account))
		if err := p.Check(t.Context()); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("node %d still has tokens: %v", k+1, err)
		}
	}
	if !early {
		again = s.signedIn(t, "ada")
	}
	for _, n := range s.nodes {
		if got := again.at(n).me(t); got.Name != "ada" {
			t.Errorf("node %d: got %+v", n.number, got)
		}
	}
	if got := s.idp().Stats().RefreshReused; got != 0 {
		t.Errorf("the server saw %d refresh tokens again", got)
	}
}
