package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Applications that share a Redis server need prefixes of their own.
const (
	tokenPrefix   = "coatcheck-example:"
	sessionPrefix = "coatcheck-example-session:"
)

// openRedis keeps both in one Redis database, through one client, encrypted with
// the keys of the file.
func openRedis(ctx context.Context, cfg *config, keys *tokencache.Keys, log *slog.Logger) (_ *store, err error) {
	where, err := parseRedisURL(cfg.redisURL)
	if err != nil {
		return nil, err
	}
	logging.Disable() // it writes to stderr what comes back as an error too
	client := newRedisClient(where)
	defer func() {
		if err != nil {
			err = errors.Join(err, client.Close())
		}
	}()
	asking, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := client.Ping(asking).Err(); err != nil {
		return nil, fmt.Errorf("-redis-url: Redis at %s: %w", where.Addr, err)
	}
	provider, err := redisprovider.New(client, &redisprovider.Options{Prefix: tokenPrefix, Log: log})
	if err != nil {
		return nil, err
	}
	return &store{
		provider: provider, sessions: newRedisSessions(client, keys.Seal, log), keys: keys,
		release: func(context.Context) error { return client.Close() },
		place:   fmt.Sprintf("in Redis at %s, database %d", where.Addr, where.DB),
	}, nil
}

// newRedisClient returns the client for everything. Its timeouts are short: a
// driver's defaults can hold a request for many seconds.
func newRedisClient(where *redis.Options) *redis.Client {
	o := redisprovider.RecommendedOptions()
	o.Addrs, o.DB = []string{where.Addr}, where.DB
	o.Username, o.Password, o.TLSConfig = where.Username, where.Password, where.TLSConfig
	return redis.NewClient(o.Simple())
}

// newRedisSessions keeps sessions in the same Redis, which forgets them by itself.
func newRedisSessions(client *redis.Client, seal tokencache.AEAD, log *slog.Logger) *sealedSessions {
	return newSealedSessions(goredisstore.NewWithPrefix(client, sessionPrefix), seal, log)
}

// parseRedisURL reads -redis-url. Its errors show nothing of the text, which may
// hold a password; those of the packages that parse it would.
func parseRedisURL(text string) (*redis.Options, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "redis" && u.Scheme != "rediss", u.Hostname() == "":
		return nil, errors.New("-redis-url: must be like redis://127.0.0.1:6379/0 or rediss://user:password@host:6379/0, " +
			"with special characters of the password percent-encoded")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("-redis-url: takes no parameters; special characters of the password are percent-encoded")
	case u.Scheme == "redis" && !isLoopback(u.Hostname()):
		return nil, errors.New("-redis-url: must be rediss:// beyond this machine, as passwords and sessions travel to it")
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, errors.New("-redis-url: after the host comes the number of the database, such as /0, and nothing else")
	}
	return o, nil
}
