package flows_test

import (
	"sync"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A thousand callers of an API on four machines, fifty users with the same tokens
// over and over: whatever is needed on behalf of one of them is asked for once.
func TestThousandCallers(t *testing.T) {
	t.Parallel()
	const users, machines, callers = 50, 4, 1000
	for _, b := range shared {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, b, idp.Options{})
			app := w.app(t)
			tokens := make([]tokencache.Secret, users)
			for i := range tokens {
				tokens[i] = app.token(t, app.of(t, app.signIn(t, user(i), nil).Key()), firstScope).AccessToken
			}
			apis := make([]*machine, machines)
			for i := range apis {
				apis[i] = w.api(t)
			}
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() {
					m := apis[i%machines]
					scope := secondScope
					if i/users%2 == 1 {
						scope = thirdScope
					}
					if _, err := m.Token(m.incoming(t, tokens[i%users], "api://first"), scope); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if s := w.idp.Stats(); s.OnBehalfOfMost != 1 || s.OnBehalfOfDistinct != 2*users || s.TokenRequests.OnBehalfOf != 2*users {
				t.Errorf("asked %d times for %d things, want %d, and for one of them %d times", s.TokenRequests.OnBehalfOf, s.OnBehalfOfDistinct, 2*users, s.OnBehalfOfMost)
			}
		})
	}
}
