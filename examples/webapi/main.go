// Command webapi is the example of web APIs: a web app in which people sign in, an
// API that it calls in their names, and a second API that the first one calls in
// their names, with another token.
//
//	go run ./examples/webapi
//
// needs nothing installed: a local identity server comes with it. See the README
// beside this file for what to try.
//
// # Reading the source
//
// The three are programs of their own that happen to run in one process: each has
// its client ID, its secret, its cache and its address. What an API copies is in
// orders.go, and in prices.go if it calls nobody; what a web app copies is in
// web.go, errors.go and signout.go. How a call is made, and what its errors mean, is
// in call.go. The rest is pages, and stage.go, which makes things go wrong.
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
	fmt.Fprintln(os.Stderr, "webapi:", err)
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
	a, err := start(ctx, &cfg, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: cfg.logLevel})))
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
