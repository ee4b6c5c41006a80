package fleet

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// gap is a point of a refresh at which a process stops, to be killed there.
type gap string

// The points, in order. Those between the last read and the save are at the tap:
// the process has sent its request, and the server has not got it, or is working,
// or has answered. Two of them are the same for the process, which cannot know.
const (
	beforeLease   gap = "before the lease"
	withLease     gap = "with the lease, before the read"
	beforeRead    gap = "at the read"
	afterRead     gap = "after the read, before the server is asked"
	onTheWay      gap = "the request on its way, and lost"
	serverWorks   gap = "while the server works"
	atRenewal     gap = "at a renewal of the lease, while the server works"
	answerComes   gap = "the answer on its way"
	beforeSave    gap = "after the answer, before the save"
	afterSave     gap = "after the save, before its reply"
	beforeRelease gap = "before the release of the lease"
	afterRelease  gap = "after the release"
)

// stopper stops a process at its gap: for good, since it is killed there.
type stopper struct {
	child    *child
	gap      gap
	acquired atomic.Bool
	once     sync.Once
}

func (s *stopper) fault(ctx context.Context, call *providertest.Call) error {
	before := map[providertest.Op]gap{
		providertest.OpAcquire: beforeLease, providertest.OpLoad: beforeRead,
		providertest.OpSave: beforeSave, providertest.OpRelease: beforeRelease, providertest.OpRenew: atRenewal,
	}
	after := map[providertest.Op]gap{
		providertest.OpAcquire: withLease, providertest.OpLoad: afterRead,
		providertest.OpSave: afterSave, providertest.OpRelease: afterRelease,
	}
	// What is loaded without the lease is not the refresh's.
	counts := call.Op != providertest.OpLoad || s.acquired.Load()
	if counts {
		s.stop(before[call.Op])
	}
	err := call.Do(ctx)
	if call.Op == providertest.OpAcquire && err == nil {
		s.acquired.Store(true)
	}
	if counts {
		s.stop(after[call.Op])
	}
	return err
}

func (s *stopper) stop(at gap) {
	if at == "" || at != s.gap {
		return
	}
	s.once.Do(func() { s.child.send(message{Event: string(at)}) })
	select {}
}

// outcomeOf a death, for the user and for the process that survives.
type outcomeOf struct {
	hold   *hold // at the tap; nil: the process stops by itself
	waits  bool  // for the dead process's lease
	stored bool  // the survivor finds the dead process's token
	lost   bool  // the user must sign in again
}

// The holder of the lease is killed in every gap of a refresh. Another process
// waits for the lease at most, and gets a token: it finds the one that is stored,
// or refreshes. The user must sign in again only where the server had rotated the
// refresh token and the answer was not stored: it was with the dead process, or
// on the way to it.
func TestLeaseHolderKilledInEveryGap(t *testing.T) {
	everyBackend(t, true, func(t *testing.T, s service) {
		w := newWorld(t, s)
		survivor := start(t, w.setup("survivor"))
		cases := map[gap]outcomeOf{
			beforeLease:   {},
			withLease:     {waits: true},
			beforeRead:    {waits: true},
			afterRead:     {waits: true},
			onTheWay:      {waits: true, hold: &hold{}},
			serverWorks:   {waits: true, hold: &hold{forward: true}, lost: true},
			atRenewal:     {waits: true, hold: &hold{forward: true}, lost: true},
			answerComes:   {waits: true, hold: &hold{after: true}, lost: true},
			beforeSave:    {waits: true, lost: true},
			afterSave:     {stored: true},
			beforeRelease: {stored: true},
			afterRelease:  {stored: true},
		}
		gaps := slices.Sorted(maps.Keys(cases))
		for round := range times(1, 10) {
			// All at once, however few tests may run in parallel: they wait for leases.
			together(len(gaps), func(i int) {
				t.Run(string(gaps[i]), func(t *testing.T) { w.killIn(t, round, gaps[i], cases[gaps[i]], survivor) })
			})
		}
	})
}

func (w *world) killIn(t *testing.T, round int, at gap, want outcomeOf, survivor *process) {
	t.Helper()
	name := string(at) + string(rune('a'+round))
	u := w.signIn(t, name, 1)[0]
	w.expire(t, u)
	setup := w.setup(name)
	setup.Gap = at
	dies := start(t, setup)
	var held *hold
	if want.hold != nil {
		held = w.tap.hold(name, *want.hold)
	}
	asked := make(chan error, 1)
	go func() { asked <- dies.call("ask", askArgs{Tickets: []string{u.ticket}}, nil) }()
	w.awaitGap(t, dies, at, held)
	dies.kill(t)
	if err := <-asked; err == nil {
		t.Error("the process has answered: it was not killed in the gap")
	}
	if held != nil {
		waitFor(t, held.over, "the server to do what it was asked")
	}
	ask := askArgs{Tickets: []string{u.ticket}}
	r := survivor.ask(t, ask)
	w.checkSurvivor(t, r, want)
	w.checkServer(t, u, name, want)

	ask.Force = true
	if again := survivor.ask(t, ask); (again.OK == 1) == want.lost {
		t.Errorf("a refresh later on: %d answers, errors %v", again.OK, again.Errors)
	}
	if want.lost {
		ask.Tickets = tickets(w.signIn(t, name, 1))
		if err := survivor.ask(t, ask).every(1); err != nil {
			t.Error("after a new sign-in:", err)
		}
	}
	t.Logf("the survivor got %v, errors %v, after %v", r.Sources, r.Errors, r.Slowest.Round(time.Millisecond))
}

// awaitGap waits until the process is where it is to be killed.
func (w *world) awaitGap(t *testing.T, p *process, at gap, held *hold) {
	t.Helper()
	if held != nil {
		waitFor(t, held.reached, "the request to reach the tap")
		if at != atRenewal {
			return
		}
	}
	select {
	case e := <-p.events:
		if e != string(at) {
			t.Errorf("the process is %q", e)
		}
	case <-time.After(patience):
		t.Error("the process did not get there")
	}
}

// checkSurvivor checks what another process has got, and when.
func (w *world) checkSurvivor(t *testing.T, r *report, want outcomeOf) {
	t.Helper()
	switch {
	case want.lost:
		if r.Errors["invalid grant"] != 1 {
			t.Errorf("%d answers, errors %v, want ErrInvalidGrant", r.OK, r.Errors)
		}
	case want.stored:
		if r.Sources["provider"] != 1 {
			t.Errorf("answers from %v, errors %v, want the stored token", r.Sources, r.Errors)
		}
	case r.OK != 1:
		t.Errorf("errors %v, want a token", r.Errors)
	}
	least, most := time.Duration(0), slack
	if want.waits {
		least, most = leaseLife/2, leaseLife+slack
	}
	if r.Slowest < least || r.Slowest > most {
		t.Errorf("it took %v, want %v to %v", r.Slowest, least, most)
	}
}

// checkServer checks what the server was asked for the user by each process, the
// survivor's first request included.
func (w *world) checkServer(t *testing.T, u user, dead string, want outcomeOf) {
	t.Helper()
	s, err := w.tap.of(u.first)
	check(t, err)
	byDead, bySurvivor, refused := 0, 1, 0
	switch {
	case want.lost:
		byDead, bySurvivor, refused = 1, 0, 1
	case want.stored:
		byDead, bySurvivor = 1, 0
	}
	if s.Answered[dead] != byDead || s.Answered["survivor"] != bySurvivor || s.Refused["survivor"] != refused {
		t.Errorf("the server has refreshed %v and refused %v; want %d and %d refreshes, %d refused",
			s.Answered, s.Refused, byDead, bySurvivor, refused)
	}
}
