package fleet

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

const (
	killedUsers   = 1000
	killedWorkers = 16 // of each process: so many refreshes at a time
)

// Four processes ask for the tokens of a thousand users, all of which have
// expired, and one is killed in the middle. The others refresh what it has left,
// after its leases have run out. Nobody is signed out but those whose new refresh
// token the killed process was given by the server and had not stored.
func TestProcessKilledAmongThousandUsers(t *testing.T) {
	everyBackend(t, true, func(t *testing.T, s service) {
		w := newWorld(t, s)
		users := w.signIn(t, "killed", killedUsers)
		w.killAt(t, users, killedUsers/3)
		if !stress() {
			return
		}
		for round := range 3 {
			for _, at := range []int{10, killedUsers / 10, killedUsers / 2, killedUsers * 9 / 10} {
				w.killAt(t, w.signIn(t, fmt.Sprintf("killed%d-%d-", round, at), killedUsers), at)
			}
		}
	})
}

// killAt has four processes refresh all users, kills one when the server has
// answered so many refreshes, and checks what became of each user.
func (w *world) killAt(t *testing.T, users []user, answered int) {
	t.Helper()
	w.expire(t, users...)
	fleet := w.fleet(4, nil)
	start, before := w.tap.counted(), w.idp.Stats()
	reports := make([]*report, len(fleet))
	var killed time.Time
	together(len(fleet)+1, func(i int) {
		if i == len(fleet) {
			w.waitForAnswers(t, start.Answered+answered)
			fleet[0].kill(t)
			killed = time.Now()
			return
		}
		r := &report{}
		err := fleet[i].call("ask", askArgs{
			Tickets: tickets(users), Goroutines: killedWorkers, Shuffle: uint64(i + 1),
		}, r)
		if (err == nil) == (i == 0) {
			t.Errorf("%s: %v", fleet[i].name, err)
		}
		reports[i] = r
	})
	took := time.Since(killed)
	survivors, reports := fleet[1:], reports[1:]

	lost := w.lostBy(t, users, fleet[0])
	if len(lost) > killedWorkers {
		t.Errorf("%d users must sign in again, and the process worked for %d at a time", len(lost), killedWorkers)
	}
	waited := w.checkReports(t, reports, users, lost)
	w.checkForced(t, survivors, users, lost)

	refreshes, reused, revoked := w.figures(before)
	if counted := w.tap.counted(); int64(counted.Refreshes-start.Refreshes) != refreshes {
		t.Errorf("the tap has seen %d refreshes, and the server %d", counted.Refreshes-start.Refreshes, refreshes)
	}
	if revoked != int64(len(lost)) || len(lost) == 0 && reused != 0 {
		t.Errorf("%d families revoked and %d used tokens seen, with %d answers lost", revoked, reused, len(lost))
	}
	t.Logf("killed after %d answers: %d of %d must sign in again; %d waited for a lease, the longest %v; "+
		"the others were done %v later; the server saw %d refreshes, %d used tokens, %d families revoked",
		answered, len(lost), len(users), waited.users, waited.longest, took, refreshes, reused, revoked)
}

func (w *world) waitForAnswers(t *testing.T, answered int) {
	for end := time.Now().Add(patience); w.tap.counted().Answered < answered; {
		if time.Now().After(end) {
			t.Error("the processes did not get that far")
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// lostBy returns the users whose stored refresh token is not the one that is good
// at the server. The good one must have been given to the process that died.
func (w *world) lostBy(t *testing.T, users []user, dead *process) (lost []int) {
	t.Helper()
	for i, u := range users {
		stored, err := w.stored(t.Context(), u)
		check(t, err)
		s, err := w.tap.of(u.first)
		check(t, err)
		if stored == s.Current {
			if len(s.Refused) > 0 {
				t.Errorf("user %d: a used refresh token was sent by %v, and none was lost", i, slices.Collect(maps.Keys(s.Refused)))
			}
			continue
		}
		lost = append(lost, i)
		if s.LastBy != dead.name {
			t.Errorf("user %d: what %s got from the server is not stored", i, s.LastBy)
		}
	}
	return lost
}

type waiting struct {
	users   int
	longest time.Duration
}

// checkReports wants every answer of the survivors but those for lost users, in
// the time that leases may take.
func (w *world) checkReports(t *testing.T, reports []*report, users []user, lost []int) (all waiting) {
	t.Helper()
	slow := map[int]bool{}
	for i, r := range reports {
		for user, kind := range r.Failed {
			if !slices.Contains(lost, user) || kind != "invalid grant" {
				t.Errorf("survivor %d: user %d got the error %q", i, user, kind)
			}
		}
		if r.OK+len(r.Failed) != len(users) {
			t.Errorf("survivor %d: %d answers and %d errors for %d users", i, r.OK, len(r.Failed), len(users))
		}
		if r.Slowest > leaseLife+slack {
			t.Errorf("survivor %d: somebody waited for %v", i, r.Slowest)
		}
		for user, took := range r.Slow {
			slow[user] = true
			all.longest = max(all.longest, took)
		}
	}
	all.users = len(slow)
	return all
}

// checkForced has the survivors refresh everybody once more, so that the server
// says who is still signed in.
func (w *world) checkForced(t *testing.T, survivors []*process, users []user, lost []int) {
	t.Helper()
	reports := make([]*report, len(survivors))
	share := (len(users) + len(survivors) - 1) / len(survivors)
	together(len(survivors), func(i int) {
		mine := users[i*share : min((i+1)*share, len(users))]
		reports[i] = survivors[i].ask(t, askArgs{Tickets: tickets(mine), Goroutines: killedWorkers, Force: true})
	})
	var refused []int
	for i, r := range reports {
		for user, kind := range r.Failed {
			refused = append(refused, i*share+user)
			if kind != "invalid grant" {
				t.Errorf("user %d got the error %q", i*share+user, kind)
			}
		}
	}
	slices.Sort(refused)
	if !slices.Equal(refused, lost) {
		t.Errorf("signed out are %v, want %v", refused, lost)
	}
}
