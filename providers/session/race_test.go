package session_test

import (
	"errors"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/coatcheck-go/coatcheck/providers/session"
)

// race is something that breaks tokens which are kept in session values.
type race struct {
	name string
	// idle tells that it takes IdleTimeout to break them.
	idle bool
	// run has somebody signed in, and leaves them signed in or out.
	run func(t testing.TB, w *world)
	// out tells that they are signed out in the end.
	out bool
}

func races() []race {
	return []race{
		{name: "a slow reader ends after a refresh", idle: true, run: func(t testing.TB, w *world) {
			w.slowly(t, "/slow", func() { w.want(t, "/refresh", http.StatusOK) })
		}},
		{name: "a slow reader ends after a sign-out", idle: true, out: true, run: func(t testing.TB, w *world) {
			w.slowly(t, "/slow", func() { w.want(t, "/signout", http.StatusOK) })
		}},
		{name: "a slow writer ends after a refresh", run: func(t testing.TB, w *world) {
			w.slowly(t, "/slow-write", func() { w.want(t, "/refresh", http.StatusOK) })
		}},
		{name: "a slow writer ends after a sign-out", out: true, run: func(t testing.TB, w *world) {
			w.slowly(t, "/slow-write", func() { w.want(t, "/signout", http.StatusOK) })
		}},
		{name: "a write after the first byte", run: func(t testing.TB, w *world) {
			w.want(t, "/late", http.StatusOK)
		}},
		{name: "a panic", run: func(t testing.TB, w *world) {
			if a := w.get("/panic"); a.err == nil {
				t.Fatal("a handler that panicked has answered")
			}
		}},
	}
}

// outcome tells what is left when the race is over.
func (r race) outcome(t testing.TB, w *world) error {
	t.Helper()
	w.enter(t)
	r.run(t, w)
	refreshes := w.authority.refreshes.Load()
	switch a := w.get("/refresh"); {
	case a.err != nil:
		return a.err
	case w.authority.reused.Load() > 0:
		return errors.New("a refresh token was spent twice")
	case r.out && (a.status != http.StatusUnauthorized || w.authority.refreshes.Load() != refreshes):
		return errors.New("somebody who has signed out has tokens")
	case !r.out && a.status != http.StatusOK:
		return errors.New("somebody who is signed in has no tokens")
	}
	return nil
}

// rounds is how often a race is run. make stress runs every test 20 times: 500 in all.
func rounds() int {
	if os.Getenv("COATCHECK_STRESS") != "" {
		return 25
	}
	return 2
}

// The tokens survive, or stay away, in every store, in the manager's and in front of
// another provider, with IdleTimeout and without.
func TestRaces(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, sessions *scs.SessionManager, o *session.Options) {
		w := newOurs(t, sessions, o)
		for _, r := range races() {
			for range rounds() {
				if err := r.outcome(t, w); err != nil {
					t.Errorf("%s: %v", r.name, err)
				}
				w.cookie = nil
			}
		}
	})
}

// everywhere runs a test in every store, in both forms, with IdleTimeout and without.
func everywhere(t *testing.T, test func(t *testing.T, sessions *scs.SessionManager, o *session.Options)) {
	for _, s := range stores() {
		for _, form := range []string{"in the store", "in another provider"} {
			for _, idle := range []time.Duration{0, 20 * time.Minute} {
				t.Run(s.name+"/"+form+"/idle "+idle.String(), func(t *testing.T) {
					t.Parallel()
					sessions := newManager(s.open(t)(t))
					sessions.IdleTimeout = idle
					o := &session.Options{}
					if form == "in another provider" {
						o.Provider = newMemory(t)
					}
					test(t, sessions, o)
				})
			}
		}
	}
}

func newOurs(t testing.TB, sessions *scs.SessionManager, o *session.Options) *world {
	t.Helper()
	app := newApp(t, newProvider(t, sessions, o))
	return newWorld(t, sessions, app, app.authority)
}

// What these tests look for is there to be found: tokens in session values are lost,
// or come back, in each of the races.
func TestRacesBreakSessionValues(t *testing.T) {
	t.Parallel()
	for _, s := range stores() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range races() {
				sessions, a := newManager(s.open(t)(t)), newAuthority()
				if r.idle {
					sessions.IdleTimeout = 20 * time.Minute
				}
				w := newWorld(t, sessions, &naive{sessions, a}, a)
				if err := r.outcome(t, w); err == nil {
					t.Errorf("%s: nothing was lost", r.name)
				}
			}
		})
	}
}

// Many requests of one session at once, each with a refresh of its own or something to
// write, spend no refresh token twice. In front of another provider, and in the
// manager's store within a process.
func TestWritersAtOnce(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, sessions *scs.SessionManager, o *session.Options) {
		w := newOurs(t, sessions, o)
		w.enter(t)
		for range rounds() {
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					path := "/refresh"
					if i%4 == 3 {
						path = "/late"
					}
					if a := w.get(path); a.err != nil || a.status != http.StatusOK {
						t.Errorf("%s: status %d (%v): %s", path, a.status, a.err, a.body)
					}
				})
			}
			wg.Wait()
		}
		if n := w.authority.reused.Load(); n > 0 {
			t.Errorf("%d refresh tokens were spent twice", n)
		}
		w.want(t, "/refresh", http.StatusOK)
	})
}

// Signing out while others refresh is final, whoever is last.
func TestSignOutAmongWriters(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, sessions *scs.SessionManager, o *session.Options) {
		w := newOurs(t, sessions, o)
		for range rounds() {
			w.enter(t)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { _ = w.get("/refresh") })
			}
			w.want(t, "/signout", http.StatusOK)
			wg.Wait()
			w.want(t, "/refresh", http.StatusUnauthorized)
			w.cookie = nil
		}
		if n := w.authority.reused.Load(); n > 0 {
			t.Errorf("%d refresh tokens were spent twice", n)
		}
	})
}

// The session gets another token, and keeps its tokens.
func TestRenewToken(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, sessions *scs.SessionManager, o *session.Options) {
		w := newOurs(t, sessions, o)
		w.enter(t)
		before := w.cookie
		w.cookie = w.want(t, "/renew", http.StatusOK).cookie
		if w.cookie == nil || w.cookie.Value == before.Value {
			t.Fatal("the cookie is the same")
		}
		w.want(t, "/refresh", http.StatusOK)
		w.cookie = before
		w.want(t, "/refresh", http.StatusUnauthorized)
	})
}
