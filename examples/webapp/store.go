package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// What -provider can be.
const (
	inMemory   = "memory"
	inRedis    = "redis"
	inPostgres = "postgres"
	inSQLite   = "sqlite"
)

// backend is where tokens and sessions can be kept outside of this process, for
// others that share them.
type backend struct {
	name    string // of -provider
	title   string // for people
	flag    string // that says where it is
	example string // of that
	where   func(*config) string
	check   func(where string) error
	open    func(ctx context.Context, cfg *config, keys *tokencache.Keys, log *slog.Logger) (*store, error)
}

var backends = []*backend{
	{
		name: inRedis, title: "Redis", flag: "redis-url", example: "redis://127.0.0.1:6379/0",
		where: func(c *config) string { return c.redisURL },
		check: func(where string) error { _, err := parseRedisURL(where); return err },
		open:  openRedis,
	},
	{
		name: inPostgres, title: "PostgreSQL", flag: "postgres-url", example: "postgres://127.0.0.1:5432/app",
		where: func(c *config) string { return c.postgresURL },
		check: func(where string) error { _, err := parsePostgresURL(where); return err },
		open:  openPostgres,
	},
	{
		name: inSQLite, title: "SQLite", flag: "sqlite-path", example: "example.db",
		where: func(c *config) string { return c.sqlitePath },
		check: checkSQLitePath,
		open:  openSQLite,
	},
}

// backendOf returns nil for memory, and for what there is not.
func backendOf(name string) *backend {
	for _, b := range backends {
		if b.name == name {
			return b
		}
	}
	return nil
}

// answerTimeout bounds how long a backend may take to answer at the start.
const answerTimeout = 2 * time.Second

// store is where tokens and sessions are kept.
type store struct {
	provider storage
	sessions scs.Store
	keys     *tokencache.Keys // nil if nothing leaves this process
	name     string           // that of -provider
	title    string           // what that is, for people
	place    string           // the same, and where

	sweepers []func(context.Context) error // besides the provider's
	sweeping chan struct{}                 // closed when no sweep is to follow; nil if there are none
	stop     context.CancelFunc            // ends sweeping
	release  func(context.Context) error   // what the provider is on; nil if nothing
}

// storage is a provider that ends.
type storage interface {
	tokencache.Provider
	Close(context.Context) error
}

func openStore(ctx context.Context, cfg *config, log *slog.Logger) (*store, error) {
	if b := backendOf(cfg.provider); b != nil {
		keys, err := loadKeys(ctx, cfg.keysFile)
		if err != nil {
			return nil, err
		}
		s, err := b.open(ctx, cfg, keys, log)
		if err != nil {
			return nil, err
		}
		s.name, s.title = b.name, b.title
		return s, nil
	}
	provider, err := memory.New(nil)
	if err != nil {
		return nil, err
	}
	return &store{
		provider: provider, sessions: memstore.New(),
		name: inMemory, title: "the nodes’ memory", place: "in the memory of this process",
	}, nil
}

const (
	// defaultSweepPause is the time between two sweeps.
	defaultSweepPause = 5 * time.Minute
	// sweepTimeout bounds each. What it did not get to is left to the next.
	sweepTimeout = time.Minute
)

// keepSwept removes what is over, every few minutes until close. Without it, a
// database keeps for ever what nobody asks for any more; Redis forgets by itself.
// All processes may do this, and one is enough.
func (s *store) keepSwept(pause time.Duration, log *slog.Logger) {
	sweepers := s.sweepers
	if sweeper := s.provider.Capabilities().Sweeper; sweeper != nil {
		sweepers = append(sweepers, func(ctx context.Context) error {
			_, err := sweeper.Sweep(ctx)
			return err
		})
	}
	if len(sweepers) == 0 {
		return
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.sweeping = make(chan struct{})
	go func() {
		defer close(s.sweeping)
		for next := time.NewTicker(pause); ; {
			select {
			case <-next.C:
				sweep(ctx, sweepers, log)
			case <-ctx.Done():
				next.Stop()
				return
			}
		}
	}()
}

func sweep(ctx context.Context, sweepers []func(context.Context) error, log *slog.Logger) {
	bounded, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	for _, s := range sweepers {
		if err := s(bounded); err != nil && ctx.Err() == nil {
			log.Warn("what is over could not be removed; it is tried again", "error", err)
		}
	}
}

// close ends what uses the provider, then the provider, and then what that is on.
func (s *store) close(ctx context.Context) error {
	if s.sweeping != nil {
		s.stop()
		<-s.sweeping
	}
	err := s.provider.Close(ctx)
	if s.release != nil {
		err = errors.Join(err, s.release(ctx))
		s.release = nil // closing again does nothing
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
