package background_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/internal/background"
)

const ms = time.Millisecond

// server has leases, each with the time at which it carries out what asked for it.
type server struct {
	mu     sync.Mutex
	began  time.Time
	grants map[string]time.Duration
	away   bool // it does not answer
	asked  map[string][]time.Duration
}

// start returns doubts, and a server on which their leases are.
func start(t *testing.T) (*server, *background.Work, *background.Doubts) {
	t.Helper()
	w := background.NewWork()
	t.Cleanup(func() {
		if err := w.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s := &server{began: time.Now(), grants: map[string]time.Duration{}, asked: map[string][]time.Duration{}}
	return s, w, background.NewDoubts(w)
}

// lease is one that the server grants after a while, if it is ever to.
func (s *server) lease(name string, granted time.Duration) background.Release {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants[name] = granted
	return func(ctx context.Context) (bool, error) {
		s.mu.Lock()
		away := s.away
		s.asked[name] = append(s.asked[name], time.Since(s.began))
		s.mu.Unlock()
		if away {
			<-ctx.Done()
			return false, ctx.Err()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		at, ok := s.grants[name]
		if !ok || time.Since(s.began) < at {
			return false, nil
		}
		delete(s.grants, name)
		return true, nil
	}
}

func (s *server) set(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *server) want(t *testing.T, asked map[string][]time.Duration) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if diff := cmp.Diff(asked, s.asked); diff != "" {
		t.Error("releases (-want +got):\n", diff)
	}
}

const never = time.Hour

// A release that finds the lease is the last. One that does not is repeated until
// the lease would have run out, as the request may come after it.
func TestDoubts(t *testing.T) {
	for name, test := range map[string]struct {
		granted time.Duration
		want    []time.Duration
	}{
		"granted":      {0, []time.Duration{0}},
		"granted late": {600 * ms, []time.Duration{0, 100 * ms, 300 * ms, 700 * ms}},
		"not granted":  {never, []time.Duration{0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _, doubts := start(t)
				doubts.Add(s.lease("a", test.granted), 5*time.Second)
				time.Sleep(time.Minute)
				s.want(t, map[string][]time.Duration{"a": test.want})
				// And the next one finds somebody to give it back.
				doubts.Add(s.lease("b", 0), 5*time.Second)
				s.want(t, map[string][]time.Duration{"a": test.want, "b": {time.Minute}})
			})
		})
	}
}

// A lease is given back at once even while there are others to wait for.
func TestDoubtWhileOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, doubts := start(t)
		doubts.Add(s.lease("late", 3*time.Second), time.Minute)
		time.Sleep(2 * time.Second) // the next release is after 3.1 s
		doubts.Add(s.lease("here", 0), time.Minute)
		time.Sleep(time.Minute)
		s.want(t, map[string][]time.Duration{
			"late": {0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms},
			"here": {2 * time.Second},
		})
	})
}

// What a server has not read while it hung, it grants when it wakes up, however
// long ago that was. Every release ends after a second.
func TestDoubtsOfServerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, doubts := start(t)
		s.set(true)
		for _, name := range []string{"a", "b"} {
			doubts.Add(s.lease(name, 20150*ms), 2*time.Second)
		}
		time.Sleep(20 * time.Second)
		s.set(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		for name, asked := range s.asked {
			count := map[bool]int{}
			for _, at := range asked {
				count[at < 20*time.Second]++
			}
			if count[true] < 9 || count[true] > 10 {
				t.Errorf("in 20 s %s was tried %d times, want one of the two every 1.1 s", name, count[true])
			}
			if _, there := s.grants[name]; there || count[false] > 3 {
				t.Errorf("%s is there: %t, after %d releases", name, there, count[false])
			}
		}
	})
}

// A server that stays away does not keep the leases of others.
func TestDoubtsOfSeveralServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, _, doubts := start(t)
		gone.set(true)
		for _, name := range []string{"a", "b", "c"} {
			doubts.Add(gone.lease(name, 0), 5*time.Second)
		}
		here, _, _ := start(t)
		doubts.Add(here.lease("d", 0), 5*time.Second)
		doubts.Add(here.lease("late", 4*time.Second), 5*time.Second)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(here.grants) > 0 {
			t.Error("its leases are still there:", here.grants)
		}
		for name, at := range here.asked {
			if at[0] > 7*time.Second {
				t.Errorf("%s was not tried before %v", name, at[0])
			}
		}
	})
}

// An outage collects no more than a bounded number, and Close waits for none.
func TestDoubtsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 4096
		s, w, doubts := start(t)
		s.set(true)
		var tried atomic.Int64
		release := func(context.Context) (bool, error) {
			tried.Add(1)
			return true, nil
		}
		doubts.Add(s.lease("a", never), time.Hour)
		for range most + 1000 {
			doubts.Add(release, time.Hour)
		}
		time.Sleep(10 * time.Second)
		s.set(false)
		if tried.Load() != most-1 {
			t.Errorf("%d were tried, want %d", tried.Load(), most-1)
		}
		doubts.Add(release, time.Hour)
		time.Sleep(2 * time.Second)
		if tried.Load() != most {
			t.Error("there is no room afterwards")
		}

		s.set(true)
		doubts.Add(s.lease("b", never), time.Hour)
		began := time.Now()
		if err := w.Close(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("Close took %v: %v", time.Since(began), err)
		}
		doubts.Add(func(context.Context) (bool, error) { return false, errors.New("tried after Close") }, time.Hour)
		time.Sleep(time.Minute)
	})
}
