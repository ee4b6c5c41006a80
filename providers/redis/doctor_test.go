package redis_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
)

var healthy = []string{"maxmemory 100mb", "maxmemory-policy noeviction", "appendonly yes"}

// checks are the names of what the doctor finds.
func checks(t *testing.T, p *redisprovider.Provider) (names []string) {
	t.Helper()
	findings, err := p.Doctor(t.Context())
	must(t, err)
	for _, f := range findings {
		names = append(names, f.Check)
		for _, text := range []string{f.Problem, f.Advice} {
			if !strings.HasSuffix(text, ".") || strings.Contains(text, "127.0.0.1") {
				t.Errorf("not a sentence, or an address in it: %q", text)
			}
		}
	}
	return names
}

func TestDoctor(t *testing.T) {
	for name, test := range map[string]struct {
		config []string
		want   []string
	}{
		"healthy":    {healthy, nil},
		"evicting":   {append(healthy[:1:1], "maxmemory-policy allkeys-lru", "appendonly yes"), []string{"eviction"}},
		"volatile":   {append(healthy[:1:1], "maxmemory-policy volatile-ttl", "appendonly yes"), []string{"eviction"}},
		"unlimited":  {healthy[1:], []string{"memory"}},
		"full":       {append([]string{"maxmemory 1mb"}, healthy[1:]...), []string{"memory"}},
		"forgetful":  {healthy[:2], []string{"persistence"}},
		"replica":    {append(healthy[:3:3], "replicaof 127.0.0.1 1"), []string{"replica"}},
		"everything": {[]string{"maxmemory-policy allkeys-lru", "replicaof 127.0.0.1 1"}, []string{"eviction", "memory", "persistence", "replica"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := testserver.NewRedis(t, test.config...)
			if got := checks(t, onServer(t, s.Addr())); !slices.Equal(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}

func TestDoctorOfClient(t *testing.T) {
	s := testserver.NewRedis(t, healthy...)
	p := newProvider(t, connect(t, s.Addr(), func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = false }),
		&redisprovider.Options{Log: new(journal).logger()})
	if got := checks(t, p); !slices.Equal(got, []string{"client"}) {
		t.Errorf("found %q", got)
	}
}

func TestDoctorOfDistance(t *testing.T) {
	s := testserver.NewRedis(t, healthy...)
	proxy := testserver.NewProxy(t, s.Addr())
	p := onServer(t, proxy.Addr())
	must(t, p.Ping(t.Context()))
	proxy.Set(testserver.Fault{Delay: 20 * time.Millisecond})
	if got := checks(t, p); !slices.Equal(got, []string{"latency"}) {
		t.Errorf("found %q", got)
	}
}

// The server of a test listens on loopback only, where a name that is not one of
// loopback leads as well.
func TestDoctorOfTransport(t *testing.T) {
	s := testserver.NewRedis(t, healthy...)
	_, port, _ := strings.Cut(s.Addr(), ":")
	for host, want := range map[string][]string{
		"127.0.0.1": nil, "localhost": nil, "0.0.0.0": {"tls"},
	} {
		if got := checks(t, onServer(t, host+":"+port)); !slices.Equal(got, want) {
			t.Errorf("%s: found %q, want %q", host, got, want)
		}
	}
}

func TestDoctorOfCluster(t *testing.T) {
	t.Parallel()
	cluster := testserver.NewRedisCluster(t)
	p := newProvider(t, connect(t, cluster.Addrs()[0], func(o *redis.UniversalOptions) { o.IsClusterMode = true }), nil)
	if got := checks(t, p); !slices.Equal(got, []string{"memory", "persistence"}) {
		t.Errorf("found %q, want each once", got)
	}
}

func TestDoctorBehindSentinel(t *testing.T) {
	t.Parallel()
	sentinel := testserver.NewRedisSentinel(t)
	p := newProvider(t, connect(t, "", func(o *redis.UniversalOptions) {
		o.Addrs, o.MasterName = sentinel.SentinelAddrs(), sentinel.MasterName
	}), nil)
	if got := checks(t, p); !slices.Equal(got, []string{"memory", "persistence"}) {
		t.Errorf("found %q", got)
	}
}

func TestDoctorNeedsAServer(t *testing.T) {
	s := testserver.NewRedis(t)
	p := onServer(t, s.Addr())
	must(t, s.Kill())
	if findings, err := p.Doctor(t.Context()); err == nil || findings != nil {
		t.Errorf("of no server: %d findings, error %v", len(findings), err)
	}
}

var versionLine = regexp.MustCompile(`redis_version:[0-9.]+`)

// altered changes what the server answers.
type altered func(redis.Cmder)

func (a altered) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a altered) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		a(cmd)
		return err
	}
}

func (a altered) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestDoctorOfVersionAndClock(t *testing.T) {
	s := testserver.NewRedis(t, healthy...)
	for version, old := range map[string]bool{
		"6.2.14": false, "7.0.15": false, "10.0.0": false, "8.4": false, "6.0.9": true, "5.0.0": true, "": true, "new": true,
	} {
		for ahead, wrong := range map[time.Duration]bool{
			0: false, time.Second: false, -time.Second: false, 3 * time.Second: true, -time.Hour: true,
		} {
			c := connect(t, s.Addr())
			c.AddHook(altered(func(cmd redis.Cmder) {
				switch cmd := cmd.(type) {
				case *redis.StringCmd:
					cmd.SetVal(versionLine.ReplaceAllString(cmd.Val(), "redis_version:"+version))
				case *redis.TimeCmd:
					cmd.SetVal(time.Now().Add(ahead))
				}
			}))
			var want []string
			if wrong {
				want = append(want, "clock")
			}
			if old {
				want = append(want, "version")
			}
			if got := checks(t, newProvider(t, c, nil)); !slices.Equal(got, want) {
				t.Errorf("version %q, %v ahead: found %q, want %q", version, ahead, got, want)
			}
		}
	}
}
