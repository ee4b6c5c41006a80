// Command webapp is the example application: people sign in at an OpenID
// Connect server, and the application calls an API with their tokens, which
// coatcheck keeps, refreshes and removes.
//
//	go run ./examples/webapp
//
// needs nothing installed: a local identity server comes with it. See the README
// beside this file for what to try, and for databases and several processes.
//
// # Reading the source
//
// What an application copies is in node.go, which puts the cache, the client, the
// sessions and the router together, in store.go and sessions.go, which keep tokens
// and sessions, in client.go, which makes the client, and in signin.go, errors.go, api.go and task.go. The rest is pages,
// and the live view of what the cache does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "webapp:", err)
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(os.Stderr, "Run with -help to see the flags.")
		os.Exit(2)
	}
	os.Exit(1)
}

// closeTimeout bounds an orderly end: requests that are under way may finish.
const closeTimeout = 10 * time.Second

// run is the whole program: it serves until ctx ends, and then stops cleanly.
// It prints the addresses to open to stdout, and its log to stderr.
func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	cfg, err := parseConfig(args, env, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if cfg.newKeys {
		return createKeys(cfg.keysFile, stdout)
	}
	a, err := start(ctx, cfg, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: cfg.logLevel})))
	if err != nil {
		return err
	}
	a.announce(stdout)
	select {
	case <-ctx.Done():
	case err = <-a.failed:
	}
	_, _ = io.WriteString(stdout, "Stopping.\n")
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return errors.Join(err, a.close(closing))
}
