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

const (
	// tokenPrefix is the same for the web app and the orders API, and for other
	// examples: the names of what they store begin with their issuer and client.
	tokenPrefix = "coatcheck-example:"
	// answerTimeout bounds how long Redis may take to answer at the start.
	answerTimeout = 2 * time.Second
)

// store is where one program keeps its tokens.
type store struct {
	provider tokencache.Provider
	keys     *tokencache.Keys // nil if nothing leaves this process
	place    string           // for people
	release  []func(context.Context) error
}

func openStore(ctx context.Context, cfg *config, log *slog.Logger) (*store, error) {
	open := openMemory
	if cfg.provider == inRedis {
		open = openRedis
	}
	s, err := open(ctx, cfg, log)
	if err == nil && cfg.watch != nil {
		s.provider = cfg.watch(s.provider)
	}
	return s, err
}

func openMemory(context.Context, *config, *slog.Logger) (*store, error) {
	provider, err := memory.New(nil)
	if err != nil {
		return nil, err
	}
	return &store{
		provider: provider, place: "in the memory of this process",
		release: []func(context.Context) error{provider.Close},
	}, nil
}

// openRedis keeps tokens in Redis, encrypted with the keys of the file, for all
// machines that have the same.
func openRedis(ctx context.Context, cfg *config, log *slog.Logger) (_ *store, err error) {
	keys, err := loadKeys(ctx, cfg.keysFile)
	if err != nil {
		return nil, err
	}
	where, err := parseRedisURL(cfg.redisURL)
	if err != nil {
		return nil, err
	}
	logging.Disable()                       // it writes to stderr what comes back as an error too
	o := redisprovider.RecommendedOptions() // a driver's own timeouts can hold a request for many seconds
	o.Addrs, o.DB = []string{where.Addr}, where.DB
	o.Username, o.Password, o.TLSConfig = where.Username, where.Password, where.TLSConfig
	client := redis.NewClient(o.Simple())
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
		provider: provider, keys: keys, place: fmt.Sprintf("in Redis at %s, database %d", where.Addr, where.DB),
		release: []func(context.Context) error{provider.Close, func(context.Context) error { return client.Close() }},
	}, nil
}

// parseRedisURL reads -redis-url. Its errors show nothing of the text, which may
// hold a password; those of the packages that parse it would.
func parseRedisURL(text string) (*redis.Options, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "redis" && u.Scheme != "rediss", u.Hostname() == "", u.RawQuery != "", u.Fragment != "":
		return nil, errors.New("-redis-url: must be like redis://127.0.0.1:6379/0 or rediss://user:password@host:6379/0, " +
			"with special characters of the password percent-encoded")
	case u.Scheme == "redis" && !isLoopback(u.Hostname()):
		return nil, errors.New("-redis-url: must be rediss:// beyond this machine, as passwords travel to it")
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, errors.New("-redis-url: after the host comes the number of the database, such as /0, and nothing else")
	}
	return o, nil
}

// close ends the provider, and then what it is on.
func (s *store) close(ctx context.Context) error {
	var errs []error
	for _, release := range s.release {
		errs = append(errs, release(ctx))
	}
	s.release = nil // closing again does nothing
	return errors.Join(errs...)
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
		"Start each process that shares the store with -keys-file %[1]s and the same -provider, without -new-keys.\n", path) // nobody has to read it
	return nil
}
