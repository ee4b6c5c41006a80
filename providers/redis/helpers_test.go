package redis_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestMain(m *testing.M) {
	logging.Disable() // go-redis prints addresses of servers that the tests cut off
	goleak.VerifyTestMain(m)
}

// connect returns a client of the server with the recommended options, as
// changed.
func connect(t *testing.T, addr string, changes ...func(*redis.UniversalOptions)) redis.UniversalClient {
	t.Helper()
	o := redisprovider.RecommendedOptions()
	o.Addrs = []string{addr}
	for _, change := range changes {
		change(o)
	}
	c := redis.NewUniversalClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// newProvider returns a provider that ends with the test, before its client.
func newProvider(t *testing.T, c redis.UniversalClient, o *redisprovider.Options) *redisprovider.Provider {
	t.Helper()
	p, err := redisprovider.New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error("Close:", err)
		}
	})
	return p
}

// onServer returns a provider on the server at addr.
func onServer(t *testing.T, addr string) *redisprovider.Provider {
	t.Helper()
	return newProvider(t, connect(t, addr), nil)
}

func newName() tokencache.Name {
	return tokencache.Name{
		Owner:     "owner" + tokencache.NewVersion().String(),
		Partition: "partition" + tokencache.NewVersion().String(),
	}
}

func record(text string) tokencache.Record {
	return tokencache.Record{Sealed: []byte(text), Version: tokencache.NewVersion(), Expires: time.Now().Add(time.Hour)}
}

func tombstone() tokencache.Record {
	return tokencache.Record{Version: tokencache.NewVersion(), Expires: time.Now().Add(time.Hour)}
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a moment in which the condition holds.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// journal collects a log.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.buf.String(), text)
}
