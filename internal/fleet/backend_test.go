package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// backend is a store that processes share, as its kind and how to reach it. It is
// all that a child is told.
type backend struct{ Kind, URL string }

// service is a running backend of a test, as the tests need it.
type service interface {
	// at is how a process reaches it.
	at() backend
	// deaf is at for a process that hears of no changes.
	deaf() backend
	// spy looks for words in all that is sent to the server. The function that it
	// returns ends that, and tells how much was sent and which words were in it.
	spy(t *testing.T, words []string) func() (bytes int, found []string)
	// dump is all that is stored, with its names.
	dump(t *testing.T) []byte
	// traits are those of its kind.
	traits() traits
}

// traits are what the tests must know of a kind of backend.
type traits struct {
	// heard is when a process has mostly heard of what another one has saved.
	heard time.Duration
	// share of the rounds of long tests is enough. They look at the caches more
	// than at the backend, and no kind but the first needs them all.
	share float64
}

// kind is one of the backends that the tests run with.
type kind struct {
	name  string
	start func(t *testing.T) service
}

var kinds = []kind{
	{"redis", startRedis},
	{"postgres", startPostgres},
}

// openers make a provider in a process.
var openers = map[string]func(*url.URL, *setup) (tokencache.Provider, closer, error){
	"redis":    openRedis,
	"postgres": openPostgres,
	listening:  openListening,
}

// closer releases a provider and what is under it.
type closer func(context.Context) error

// open makes a provider for the backend that the setup names.
func (s *setup) open() (tokencache.Provider, closer, error) {
	u, err := url.Parse(s.Backend.URL)
	if err != nil {
		return nil, nil, errors.New("the backend's URL is malformed")
	}
	opener, ok := openers[s.Backend.Kind]
	if !ok {
		return nil, nil, fmt.Errorf("no backend is of the kind %q", s.Backend.Kind)
	}
	return opener(u, s)
}

// through is the backend by way of a proxy.
func (b backend) through(addr string) backend {
	u, err := url.Parse(b.URL)
	if err != nil {
		panic("the backend's URL is malformed")
	}
	u.Host = addr
	return backend{b.Kind, u.String()}
}

// addr is the host and port of the backend.
func (b backend) addr(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(b.URL)
	check(t, err)
	_, _, err = net.SplitHostPort(u.Host)
	check(t, err)
	return u.Host
}

// everyBackend runs the test for each of them, and for some more.
func everyBackend(t *testing.T, parallel bool, test func(*testing.T, service), more ...kind) {
	t.Helper()
	if parallel {
		t.Parallel()
	}
	for _, kind := range slices.Concat(kinds, more) {
		t.Run(kind.name, func(t *testing.T) {
			if parallel {
				t.Parallel()
			}
			test(t, kind.start(t))
		})
	}
}

// rounds is the first number, or the second under stress; less for a backend that
// needs fewer.
func rounds(s service, usual, stressed int) int {
	return max(1, int(s.traits().share*float64(times(usual, stressed))))
}

// quiet is for providers, whose warnings no test reads.
func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// unhurried is how long a call to a provider may take where a test is about
// something else: with four processes on two processors, a call that is late is
// no outage.
const unhurried = 5 * time.Second
