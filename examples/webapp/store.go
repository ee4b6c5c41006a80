package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	redisprovider "github.com/coatcheck-go/coatcheck/providers/redis"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// What -provider can be.
const (
	inMemory = "memory"
	inRedis  = "redis"
)

// Applications that share a Redis server need prefixes of their own.
const (
	tokenPrefix   = "coatcheck-example:"
	sessionPrefix = "coatcheck-example-session:"
)

// answerTimeout bounds how long Redis may take to answer at the start.
const answerTimeout = 2 * time.Second

// store is where tokens and sessions are kept.
type store struct {
	provider storage
	sessions scs.Store
	keys     *tokencache.Keys // nil if nothing leaves this process
	client   *redis.Client    // nil if there is none
	name     string           // that of -provider
	place    string           // for people
}

// storage is a provider that ends.
type storage interface {
	tokencache.Provider
	Close(context.Context) error
}

func openStore(ctx context.Context, cfg *config, log *slog.Logger) (*store, error) {
	if cfg.provider == inRedis {
		return openRedis(ctx, cfg, log)
	}
	provider, err := memory.New(nil)
	if err != nil {
		return nil, err
	}
	return &store{
		provider: provider, sessions: memstore.New(),
		name: inMemory, place: "in the memory of this process",
	}, nil
}

// openRedis keeps both in one Redis database, through one client, encrypted with
// the keys of the file.
func openRedis(ctx context.Context, cfg *config, log *slog.Logger) (_ *store, err error) {
	keys, err := loadKeys(ctx, cfg.keysFile)
	if err != nil {
		return nil, err
	}
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
		provider: provider, sessions: newRedisSessions(client, keys.Seal, log), keys: keys, client: client,
		name: inRedis, place: fmt.Sprintf("in Redis at %s, database %d", where.Addr, where.DB),
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

// close ends the provider and then its client.
func (s *store) close(ctx context.Context) error {
	err := s.provider.Close(ctx)
	if s.client != nil {
		err = errors.Join(err, s.client.Close())
	}
	return err
}

// ping tells whether the store answers.
func (s *store) ping(ctx context.Context) error {
	pinger := s.provider.Capabilities().Pinger
	if pinger == nil {
		return nil
	}
	return pinger.Ping(ctx)
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

func loadKeys(ctx context.Context, path string) (*tokencache.Keys, error) {
	keys, err := tokencache.LoadKeys(ctx, tokencache.KeyFile(path))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("-keys-file: there is no file %s: make it with -new-keys, once, or copy the one that other processes use", path)
	case err != nil:
		return nil, fmt.Errorf("-keys-file: %w", err)
	}
	return keys, nil
}

// createKeys writes a new key file, and says what it is for.
func createKeys(path string, out io.Writer) error {
	err := tokencache.CreateKeyFile(path)
	switch {
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("-new-keys: %s is there already and stays as it is: what its keys have sealed could not be read without them", path)
	case err != nil:
		return fmt.Errorf("-new-keys: %w", err)
	}
	_, _ = fmt.Fprintf(out, "Wrote new keys to %[1]s, which only you may read: whoever has the file can read every stored token.\n"+
		"Start each process that shares the store with -provider redis -keys-file %[1]s, without -new-keys.\n", path) // nobody has to read it
	return nil
}
