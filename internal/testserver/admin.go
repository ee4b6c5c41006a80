package testserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// groupLimit is for several servers to agree with each other.
const groupLimit = 30 * time.Second

// admin calls f with a client of a server that is up.
func (s *Redis) admin(f func(*redis.Client) error) error {
	if !s.up() {
		return errDown
	}
	client := redis.NewClient(s.options())
	err := f(client)
	return errors.Join(err, client.Close())
}

// options are those of a client that goes through the Unix socket and gives up
// quickly: whoever waits for something asks again.
func (s *Redis) options() *redis.Options {
	return &redis.Options{
		Network: "unix", Addr: s.socket(), Password: s.password,
		DialTimeout: pingLimit, ReadTimeout: pingLimit, DialerRetries: 1, MaxRetries: -1, PoolSize: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// startGroup starts several servers at once, each with its own arguments. It
// leaves none when one of them fails.
func startGroup(n int, args []string, config func(i int) []string) ([]*Redis, error) {
	servers, failed := make([]*Redis, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { servers[i], failed[i] = startRedis(args, config(i)) })
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, errors.Join(err, closeGroup(servers))
	}
	return servers, nil
}

func closeGroup(servers []*Redis) error {
	var failed []error
	for _, s := range servers {
		if s != nil {
			failed = append(failed, s.Close())
		}
	}
	return errors.Join(failed...)
}

func addrsOf(servers []*Redis) []string {
	addrs := make([]string, len(servers))
	for i, s := range servers {
		addrs[i] = s.Addr()
	}
	return addrs
}

// await is until with a limit of its own besides that of ctx, and says what it
// was that did not happen.
func await(ctx context.Context, what string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, groupLimit)
	defer cancel()
	if err := until(ctx, func() error { return ready(ctx) }); err != nil {
		return fmt.Errorf("testserver: %s: %w", what, err)
	}
	return nil
}
