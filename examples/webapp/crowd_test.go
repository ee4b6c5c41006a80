package main

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestCrowd lets many users with expired tokens all ask at once: the server
// must see one refresh for each, and each must get their own tokens.
func TestCrowd(t *testing.T) {
	const users, requests = 200, 16
	for _, nodes := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			// The race detector makes one process of a thousand requests slow.
			s := openWith(t, 30*time.Second, "-auto-login", fmt.Sprintf("-nodes=%d", nodes))
			crowd := make([]*visitor, users)
			var wg sync.WaitGroup
			turn := make(chan struct{}, 8) // this is not the crowd yet
			for i := range crowd {
				wg.Go(func() {
					turn <- struct{}{}
					defer func() { <-turn }()
					crowd[i] = s.signedIn(t, fmt.Sprintf("user%d", i))
					crowd[i].expire(t)
				})
			}
			wg.Wait()
			if t.Failed() {
				return
			}
			before := s.idp().Stats()
			start := make(chan struct{})
			for i, v := range crowd {
				for k := range requests {
					v := v.at(s.nodes[k%nodes])
					wg.Go(func() {
						<-start
						if got := v.me(t); got.Name != fmt.Sprintf("user%d", i) {
							t.Errorf("user %d is told to be %s", i, got.Name)
						}
					})
				}
			}
			close(start)
			wg.Wait()
			after := s.idp().Stats()
			if got := after.TokenRequests.RefreshToken - before.TokenRequests.RefreshToken; got != users {
				t.Errorf("the server saw %d refreshes, want %d", got, users)
			}
			if after.RefreshReused != 0 || after.FamiliesRevoked != 0 {
				t.Errorf("the server saw %d refresh tokens again and ended %d sign-ins", after.RefreshReused, after.FamiliesRevoked)
			}
		})
	}
}
