package fleet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// openRedis makes a provider as an application would, but for timeouts that suit a
// crowded machine.
func openRedis(u *url.URL, s *setup) (tokencache.Provider, closer, error) {
	o := redisprovider.RecommendedOptions()
	o.Addrs = []string{u.Host}
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	if s.ProviderTimeout > 0 {
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = s.ProviderTimeout, s.ProviderTimeout, s.ProviderTimeout
		o.PoolTimeout = s.ProviderTimeout
	}
	if s.NoRetries {
		o.MaxRetries = -1
	}
	if s.RetryPause > 0 {
		o.MinRetryBackoff, o.MaxRetryBackoff = s.RetryPause, s.RetryPause
	}
	client := redis.NewUniversalClient(o)
	p, err := redisprovider.New(client, &redisprovider.Options{Log: quiet()})
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	return p, func(ctx context.Context) error { return errors.Join(p.Close(ctx), client.Close()) }, nil
}

// leftovers end by themselves: a pool that could not connect tries once a second,
// and only then sees that it is closed.
var leftovers = []goleak.Option{
	goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
}

// redisService is a private server with one user more, who may not use channels.
type redisService struct {
	server *testserver.Redis
	client *redis.Client
}

const deafUser = "deaf"

func startRedis(t *testing.T) service {
	t.Helper()
	s := &redisService{server: testserver.NewRedis(t, "user "+deafUser+" on nopass ~* +@all resetchannels")}
	s.client = redis.NewClient(&redis.Options{Addr: s.server.Addr(), ReadTimeout: patience})
	t.Cleanup(func() { _ = s.client.Close() })
	return s
}

func (s *redisService) at() backend { return backend{"redis", "redis://" + s.server.Addr()} }
func (s *redisService) deaf() backend {
	return backend{"redis", "redis://" + deafUser + ":any@" + s.server.Addr()}
}

func (s *redisService) traits() traits { return traits{heard: 100 * time.Millisecond, share: 1} }

// spy is MONITOR: every command that the server runs, with all of its arguments,
// those of scripts included.
func (s *redisService) spy(t *testing.T, words []string) func() (int, []string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.server.Addr())
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "MONITOR\r\n")
	check(t, err)
	in := bufio.NewReaderSize(conn, 1<<20)
	_, err = in.ReadBytes('\n') // it has begun
	check(t, err)
	done := make(chan int, 1)
	found := map[string]bool{}
	go func() {
		total := 0
		for {
			line, err := in.ReadBytes('\n') // a command
			total += len(line)
			if err != nil || bytes.Contains(line, []byte(lastWord)) {
				done <- total
				return
			}
			for _, word := range words {
				if bytes.Contains(line, []byte(word)) {
					found[word] = true
				}
			}
		}
	}()
	return func() (int, []string) {
		t.Helper()
		check(t, s.client.Echo(t.Context(), lastWord).Err())
		return <-done, slices.Sorted(maps.Keys(found))
	}
}

// lastWord is a command's argument that nobody else sends.
const lastWord = "the spy has seen it all"

// dump is every key with its value in Redis's own form, and that of strings also
// as it is, since the other may be compressed.
func (s *redisService) dump(t *testing.T) []byte {
	t.Helper()
	var all bytes.Buffer
	keys := s.client.Scan(t.Context(), 0, "*", 1000).Iterator()
	for keys.Next(t.Context()) {
		key := keys.Val()
		all.WriteString(key + "\n")
		raw, err := s.client.Dump(t.Context(), key).Result()
		if err != nil && !errors.Is(err, redis.Nil) { // it may have expired
			t.Fatal(err)
		}
		all.WriteString(raw + "\n")
		kind, err := s.client.Type(t.Context(), key).Result()
		check(t, err)
		switch kind {
		case "string":
			value, err := s.client.Get(t.Context(), key).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			all.WriteString(value + "\n")
		case "zset":
			members, err := s.client.ZRange(t.Context(), key, 0, -1).Result()
			check(t, err)
			for _, m := range members {
				all.WriteString(m + "\n")
			}
		}
	}
	check(t, keys.Err())
	return all.Bytes()
}
