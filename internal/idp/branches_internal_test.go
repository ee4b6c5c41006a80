package idp

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBranchKeepsItsSignInAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		s, e := st.redeem(newCode(st))
		if e != nil {
			t.Fatal(e.description)
		}
		branch, e := st.exchange(exchange{familyID: s.familyID, clientID: "api", offline: true})
		if e != nil {
			t.Fatal(e.description)
		}
		token := st.refreshToken(branch.familyID, 0)
		for range 3 {
			time.Sleep(familyLifetime - time.Second)
			if _, token, e = st.rotate(token, "api", false); e != nil {
				t.Fatal(e.description)
			}
		}
		if !st.alive(s.familyID) {
			t.Error("the sign-in ended although a branch of it was used")
		}
		time.Sleep(familyLifetime)
		if _, e := st.exchange(exchange{familyID: branch.familyID, clientID: "api"}); e == nil || e.code != "invalid_grant" {
			t.Errorf("error %v, want invalid_grant", e)
		}
	})
}

func TestBranchDepthIsBounded(t *testing.T) {
	t.Parallel()
	st := newStore()
	s, e := st.redeem(newCode(st))
	if e != nil {
		t.Fatal(e.description)
	}
	root := s.familyID
	for depth := range maxBranchDepth {
		if s, e = st.exchange(exchange{familyID: s.familyID, clientID: "api", offline: true}); e != nil {
			t.Fatalf("depth %d: %s", depth, e.description)
		}
	}
	if st.rootLocked(s.familyID) != root {
		t.Error("the deepest branch has lost its sign-in")
	}
	if _, e = st.exchange(exchange{familyID: s.familyID, clientID: "api", offline: true}); e == nil || e.code != "invalid_grant" {
		t.Errorf("error %v, want invalid_grant", e)
	}
	st.families.remove(root) // as if it had made room for others
	if st.alive(s.familyID) {
		t.Error("a branch outlives its sign-in")
	}
}
