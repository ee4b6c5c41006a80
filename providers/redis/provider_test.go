package redis_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestNewRefuses(t *testing.T) {
	good := redis.NewClient(&redis.Options{ContextTimeoutEnabled: true})
	cluster := func(o *redis.ClusterOptions) redis.UniversalClient { return redis.NewClusterClient(o) }
	for name, test := range map[string]struct {
		client  redis.UniversalClient
		options *redisprovider.Options
		want    string
	}{
		"no client":     {nil, nil, "a client is required"},
		"ring":          {redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}}), nil, "Ring"},
		"replicas":      {cluster(&redis.ClusterOptions{ReadOnly: true}), nil, "replicas"},
		"nearest":       {cluster(&redis.ClusterOptions{RouteByLatency: true}), nil, "replicas"},
		"any":           {cluster(&redis.ClusterOptions{RouteRandomly: true}), nil, "replicas"},
		"brace":         {good, &redisprovider.Options{Prefix: "a{b"}, "Prefix"},
		"other brace":   {good, &redisprovider.Options{Prefix: "a}b"}, "Prefix"},
		"space":         {good, &redisprovider.Options{Prefix: "a b"}, "Prefix"},
		"newline":       {good, &redisprovider.Options{Prefix: "a\n"}, "Prefix"},
		"letter beyond": {good, &redisprovider.Options{Prefix: "ä"}, "Prefix"},
		"far too long":  {good, &redisprovider.Options{Prefix: strings.Repeat("x", 65)}, "Prefix"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := redisprovider.New(test.client, test.options)
			if err == nil || !strings.Contains(err.Error(), test.want) || p != nil {
				t.Errorf("provider %v, error %v, want %q", p != nil, err, test.want)
			}
			if c := test.client; c != nil {
				_ = c.Close()
			}
		})
	}
}

// A client whose calls outlive their contexts is told of, once.
func TestWarning(t *testing.T) {
	s := testserver.NewRedis(t)
	for timeouts, want := range map[bool]int{true: 0, false: 1} {
		var log journal
		c := connect(t, s.Addr(), func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = timeouts })
		p := newProvider(t, c, &redisprovider.Options{Log: log.logger()})
		for range 3 {
			must(t, p.Ping(t.Context()))
		}
		if got := p.Capabilities().Punctual; got != timeouts {
			t.Errorf("with ContextTimeoutEnabled %v: Punctual is %v", timeouts, got)
		}
		if got := log.count("ContextTimeoutEnabled"); got != want {
			t.Errorf("with ContextTimeoutEnabled %v: %d warnings", timeouts, got)
		}
	}
}

// wrapped is a client of which nothing is known.
type wrapped struct{ redis.UniversalClient }

func TestUnknownClient(t *testing.T) {
	s := testserver.NewRedis(t)
	var log journal
	p := newProvider(t, wrapped{connect(t, s.Addr())}, &redisprovider.Options{Log: log.logger()})
	must(t, everything(t, p))
	if p.Capabilities().Punctual || log.count("Timeout") > 0 {
		t.Errorf("Punctual %v, %d warnings", p.Capabilities().Punctual, log.count("Timeout"))
	}
	if got := checks(t, p); len(got) != 1 || got[0] != "client" {
		t.Errorf("the doctor found %q", got)
	}
}

// With go-redis's defaults, which hold a call for seconds, the Cache's deadline
// holds all the same.
func TestDefaultsDoNotHold(t *testing.T) {
	s := testserver.NewRedis(t)
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer func() { _ = c.Close() }()
	var log journal
	p := newProvider(t, c, &redisprovider.Options{Log: log.logger()})
	cache, err := tokencache.New(p, tokencache.Namespace{Issuer: "https://login.example", ClientID: "app"},
		&tokencache.Options{AllowUnencryptedStorage: true})
	must(t, err)
	defer func() { _ = cache.Close(context.Background()) }()
	must(t, s.Pause())
	defer func() { _ = s.Resume() }()
	began := time.Now()
	_, err = cache.Partition(tokencache.AccountKey("somebody")).Token(t.Context(), tokencache.Request{Scopes: []string{"a"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "unavailable") {
		t.Errorf("a hung server: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a request was held for %v", took)
	}
	must(t, s.Resume())
	eventually(t, 2*time.Second, "the server is asked again", func() bool {
		_, err := cache.Partition(tokencache.AccountKey("somebody")).Token(t.Context(), tokencache.Request{Scopes: []string{"a"}}, nil)
		return err != nil && !strings.Contains(err.Error(), "unavailable")
	})
}
